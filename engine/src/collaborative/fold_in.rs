//! Fold-in: a user's factors from what the user did, the products' factors being as they are.
//!
//! It is the half step of ALS for one user, solved exactly: with the same interactions it gives what training would
//! have given. It takes the whole history it is shown and not only what is new, so that nothing counts twice.

use super::wide::{add_outer, add_scaled, wide};
use super::{Factors, Objective, solve};
use std::sync::Arc;

/// What training knew of a user of whom the history at hand is only the end.
#[derive(Debug, Clone, Copy)]
pub struct Prior<'p> {
    /// The trained factors.
    pub factors: &'p [f32],
    /// How much they count: as much as a ridge so many times that of the user.
    pub strength: f32,
}

/// Folds users into a model. Immutable.
#[derive(Debug)]
pub struct FoldIn {
    items: Arc<Factors>,
    /// Upper triangle and the rest of `YᵀY`.
    gram: Vec<f32>,
    objective: Objective,
    /// Products of a user, on average, when the model was trained.
    average: f32,
}

impl FoldIn {
    /// For these products.
    pub fn new(items: Arc<Factors>, objective: Objective, average: f32) -> Self {
        let gram = items.gram();
        Self { items, gram, objective, average }
    }

    /// Factors of a user who did this much with each of these products: positions, each once, and strengths above 0.
    /// `None`: there is nothing to fold in.
    pub fn fold(&self, seen: &[(u32, f32)], prior: Option<Prior<'_>>) -> Option<Vec<f32>> {
        if seen.is_empty() {
            return prior.map(|prior| prior.factors.to_vec());
        }
        let dims = self.items.dims();
        let mut matrix = self.gram.clone();
        let mut user = vec![0.0; dims];
        let ridge = self.objective.ridge(seen.len(), self.average, self.items.rows());
        let solved = wide(|| {
            for (position, strength) in seen {
                let row = self.items.row(*position as usize);
                let confidence = self.objective.confidence(*strength);
                add_outer(&mut matrix, row, confidence - 1.0);
                add_scaled(&mut user, confidence, row);
            }
            let known = prior.map_or(0.0, |prior| ridge * prior.strength);
            // A ridge of nothing and fewer products than factors would leave it open what the factors are.
            let ridge = (ridge + known).max(f32::EPSILON);
            matrix.iter_mut().step_by(dims + 1).for_each(|diagonal| *diagonal += ridge);
            if let Some(prior) = prior {
                add_scaled(&mut user, known, prior.factors);
            }
            solve(&mut matrix, &mut user)
        });
        solved.then_some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_tastes() -> FoldIn {
        let items = vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9];
        let items = Arc::new(Factors::from_values(2, items).unwrap());
        let objective = Objective { alpha: 10.0, regularisation: 0.05, exponent: 0.0 };
        FoldIn::new(items, objective, 2.0)
    }

    #[test]
    fn a_click_says_what_is_liked() {
        let model = two_tastes();
        let user = model.fold(&[(0, 1.0)], None).unwrap();
        let score = |position: usize| {
            model.items.row(position).iter().zip(&user).map(|(a, b)| a * b).sum::<f32>()
        };
        assert!(score(0) > 0.8 && score(1) > 0.7, "{user:?}");
        assert!(score(2) < 0.2 && score(3) < 0.3, "{user:?}");
        assert_eq!(model.fold(&[], None), None);
    }

    #[test]
    fn what_training_knew_gives_way_to_what_is_done() {
        let model = two_tastes();
        let prior = |strength| Some(Prior { factors: &[0.0, 1.0], strength });
        let turned = |strength| model.fold(&[(0, 1.0)], prior(strength)).unwrap();
        assert_eq!(model.fold(&[], prior(9.0)).unwrap(), [0.0, 1.0]);
        let (weak, strong) = (turned(1.0), turned(1_000.0));
        assert!(weak[1] < strong[1] && strong[1] > 0.8, "{weak:?} {strong:?}");
        assert!(weak[0] > 0.7, "{weak:?}");
    }
}
