//! The ranking formula.

use super::{Match, fuse};
use crate::catalog::{Catalog, Ordinal};
use crate::features::FeatureBatch;
use penstock_config::policy::{Ranking, Weights};

/// The parts of the formula before they are weighted, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Parts {
    /// Fused keyword and semantic score.
    pub search: f32,
    /// Collaborative filtering.
    pub cf: f32,
    /// Popularity: within the user's categories where that is asked, else overall.
    pub popularity: f32,
    /// Newness.
    pub freshness: f32,
}

impl Parts {
    /// Each part times its weight.
    pub fn weighted(&self, weights: &Weights) -> Self {
        Self {
            search: weights.search * self.search,
            cf: weights.cf * self.cf,
            popularity: weights.popularity * self.popularity,
            freshness: weights.freshness * self.freshness,
        }
    }

    /// The final score.
    pub fn sum(&self) -> f32 {
        self.search + self.cf + self.popularity + self.freshness
    }
}

/// Whose weights were used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightsFrom {
    /// `[weights]`.
    Global,
    /// The category's, by its path.
    Category(String),
}

/// One product in the order.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Which.
    pub ordinal: Ordinal,
    /// The final score.
    pub score: f32,
    /// What it is made of.
    pub parts: Parts,
    /// What the retrievers said.
    pub found: Match,
}

/// The weights for a product: of the nearest category with its own, by the first of its paths that
/// has one; else the global ones.
pub fn weights_for(
    ordinal: Ordinal,
    catalog: &Catalog,
    ranking: &Ranking,
) -> (Weights, WeightsFrom) {
    if !ranking.by_category.is_empty()
        && let Some(row) = catalog.row(ordinal)
    {
        let categories = catalog.categories();
        let own =
            row.categories.iter().find_map(|id| categories.nearest(*id, &ranking.by_category));
        if let Some((path, weights)) = own {
            return (*weights, WeightsFrom::Category(path.to_owned()));
        }
    }
    (ranking.weights, WeightsFrom::Global)
}

/// Orders `matches`, best first. `features` holds one row per match, in the same order. Products that
/// are not in the catalogue are left out.
pub fn rank(
    matches: &[(Ordinal, Match)],
    features: &FeatureBatch,
    catalog: &Catalog,
    ranking: &Ranking,
) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = matches
        .iter()
        .enumerate()
        .filter(|(_, (ordinal, _))| catalog.row(*ordinal).is_some())
        .map(|(index, (ordinal, found))| {
            let score = |found: Option<super::fuse::Found>| found.map(|f| f.candidate.score);
            let parts = Parts {
                search: fuse(found, &ranking.fusion),
                cf: score(found.collaborative).unwrap_or(0.0),
                popularity: score(found.popular).unwrap_or(features.popularity[index]),
                freshness: features.freshness[index],
            };
            let weights = weights_for(*ordinal, catalog, ranking).0;
            let score = parts.weighted(&weights).sum();
            Ranked { ordinal: *ordinal, score, parts, found: *found }
        })
        .collect();
    let id = |ordinal: Ordinal| catalog.row(ordinal).map(|row| &*row.id);
    ranked.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| id(a.ordinal).cmp(&id(b.ordinal)))
    });
    ranked
}

#[cfg(test)]
mod tests {
    use super::super::fuse::Found;
    use super::*;
    use crate::catalog::{Product, path_key};
    use crate::retrieve::{Candidate, Source};
    use penstock_config::policy::Policy;

    fn catalog(rows: &[(&str, &str)]) -> Catalog {
        let mut catalog = Catalog::new(1);
        for (index, (id, category)) in rows.iter().enumerate() {
            let product =
                Product { id: (*id).into(), category: (*category).into(), ..Product::default() };
            catalog.push(Ordinal(index as u32), &product);
        }
        catalog
    }

    fn keyword(ordinal: u32, score: f32) -> (Ordinal, Match) {
        let ordinal = Ordinal(ordinal);
        let candidate = Candidate { ordinal, score, raw: 7.0, source: Source::Keyword };
        (ordinal, Match { keyword: Some(Found { candidate, rank: 1 }), ..Match::default() })
    }

    #[test]
    fn the_formula_adds_weighted_parts_and_ties_break_by_id() {
        let catalog = catalog(&[("b", ""), ("a", ""), ("c", "")]);
        let matches = [keyword(0, 0.5), keyword(1, 0.5), keyword(2, 1.0), keyword(9, 1.0)];
        let features = FeatureBatch {
            popularity: vec![0.5, 0.5, 0.0, 1.0],
            freshness: vec![0.0, 0.0, 0.0, 1.0],
        };
        let ranked = rank(&matches, &features, &catalog, &Policy::default().ranking);
        let ids: Vec<&str> =
            ranked.iter().map(|r| &*catalog.row(r.ordinal).expect("row").id).collect();
        assert_eq!(ids, ["c", "a", "b"]);
        assert!((ranked[0].score - 0.4).abs() < 1e-6);
        assert!((ranked[1].score - (0.4 * 0.5 + 0.2 * 0.5)).abs() < 1e-6);
    }

    #[test]
    fn a_category_has_its_own_weights() {
        let catalog = catalog(&[("a", "Toys > Dolls"), ("b", "Tools")]);
        let mut ranking = Policy::default().ranking;
        let only_fresh = Weights { search: 0.0, cf: 0.0, popularity: 0.0, freshness: 1.0 };
        ranking.by_category.insert(path_key("Toys"), only_fresh);
        assert_eq!(
            weights_for(Ordinal(0), &catalog, &ranking),
            (only_fresh, WeightsFrom::Category("Toys".into()))
        );
        assert_eq!(
            weights_for(Ordinal(1), &catalog, &ranking),
            (ranking.weights, WeightsFrom::Global)
        );
        let features = FeatureBatch { popularity: vec![1.0, 1.0], freshness: vec![0.3, 0.0] };
        let ranked = rank(&[keyword(0, 1.0), keyword(1, 0.1)], &features, &catalog, &ranking);
        assert!((ranked[0].score - 0.3).abs() < 1e-6, "{ranked:?}");
    }
}
