//! `ranking.toml`: weights, popularity, freshness, fusion.

use std::collections::BTreeMap;
use std::time::Duration;

/// Weights of the ranking formula
/// `final = search·s + cf·c + popularity·p + freshness·f`; each finite and at least 0, not all 0.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Weights {
    /// Weight of the fused search score.
    pub search: f32,
    /// Weight of the collaborative-filtering score.
    pub cf: f32,
    /// Weight of time-decayed popularity.
    pub popularity: f32,
    /// Weight of freshness.
    pub freshness: f32,
}

/// What one event of each kind adds to a product's popularity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventWeights {
    /// A product page was looked at.
    pub view: f32,
    /// A product was put into the cart.
    pub add_to_cart: f32,
    /// A product was bought.
    pub purchase: f32,
}

/// How keyword and semantic scores, both in [0, 1], become one search score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// The larger of the two, the semantic score first scaled by `semantic_weight`.
    Max {
        /// In [0, 1]. How much the best semantic match may count against the best keyword match.
        semantic_weight: f32,
    },
    /// `(1 − semantic_weight)·keyword + semantic_weight·semantic`.
    Weighted {
        /// In [0, 1].
        semantic_weight: f32,
    },
    /// Reciprocal rank fusion, scaled to [0, 1] (Cormack, Clarke, Büttcher, SIGIR 2009).
    ReciprocalRank {
        /// The constant added to every rank; 60 in the paper.
        k: f32,
    },
}

/// The validated content of `ranking.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Weights where no category says otherwise.
    pub weights: Weights,
    /// Weights per category path, keys lower-cased and trimmed (`kitchen > mugs`). A product uses
    /// those of its nearest ancestor category.
    pub by_category: BTreeMap<String, Weights>,
    /// What an event adds to popularity.
    pub events: EventWeights,
    /// After this long an event counts half.
    pub popularity_half_life: Duration,
    /// After this long a product's freshness has halved.
    pub freshness_half_life: Duration,
    /// How keyword and semantic are joined.
    pub fusion: Fusion,
}
