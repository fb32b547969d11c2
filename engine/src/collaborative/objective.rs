//! What implicit ALS minimises.

use serde::{Deserialize, Serialize};

/// Squared errors of all pairs of user and product, observed ones weighed by `1 + alpha·r` (Hu, Koren, Volinsky:
/// Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008), and a ridge that grows with what is known of a
/// row (Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation Benchmarks,
/// RecSys 2022).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// What one unit of interaction adds to the confidence of 1 that every pair has; above 0.
    pub alpha: f32,
    /// Ridge of a row, before scaling; at least 0.
    pub regularisation: f32,
    /// Scales the ridge by `(alpha · observed of the row + all rows of the other side)^exponent`, relative to a row of
    /// average length: 0 is the same ridge for every row, 1 grows with it, as the paper does by default.
    pub exponent: f32,
}

impl Objective {
    /// The confidence of an observed pair.
    pub fn confidence(&self, strength: f32) -> f32 {
        1.0 + self.alpha * strength
    }

    /// The ridge of a row with so many observed pairs, of `average` in a row, among `others` rows of the other side.
    pub fn ridge(&self, observed: usize, average: f32, others: usize) -> f32 {
        if self.exponent == 0.0 {
            return self.regularisation;
        }
        let weight = |observed: f32| self.alpha.mul_add(observed, others as f32);
        let scale = weight(observed as f32) / weight(average).max(1.0);
        self.regularisation * scale.powf(self.exponent)
    }
}
