//! `ranking.toml`: weights, popularity, freshness, fusion.

use crate::read::Section;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
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
    /// Disjunction maximum: the larger of the two, the semantic score first scaled by
    /// `semantic_weight`, and a little of the smaller: `(larger + tie_breaker·smaller) / (1 +
    /// tie_breaker)`.
    Max {
        /// In [0, 1]. How much the best semantic match may count against the best keyword match.
        semantic_weight: f32,
        /// In [0, 1]. 0: a product that both found is no better than one that one of them found.
        tie_breaker: f32,
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

/// A weight above this is a mistyped one; squared it is still far from the end of an `f32`.
const WEIGHT: RangeInclusive<f64> = 0.0..=1_000_000.0;
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// From a flash sale's minute to ten years.
const HALF_LIFE: RangeInclusive<Duration> =
    Duration::from_mins(1)..=Duration::from_hours(3_650 * 24);

pub(super) fn read(file: &Section<'_>) -> Ranking {
    let weights = file.table("weights", read_weights);
    let mut by_category = BTreeMap::new();
    file.tables("category_weights", "weights", |name, section| {
        let path = category_key(name);
        if path.is_empty() {
            section.problem("", "the name of the category is empty", None);
        }
        let weights = read_weights(section);
        if by_category.insert(path.clone(), weights).is_some() {
            let message = format!("\"{path}\" has weights already");
            let hint = "capitals and spaces around > make no difference".to_owned();
            section.problem("", &message, Some(hint));
        }
    });
    Ranking {
        weights,
        by_category,
        events: file.table("events", read_events),
        popularity_half_life: file.table("popularity", |s| s.duration("half_life", HALF_LIFE)),
        freshness_half_life: file.table("freshness", |s| s.duration("half_life", HALF_LIFE)),
        fusion: file.table("fusion", read_fusion),
    }
}

fn read_weights(section: &Section<'_>) -> Weights {
    let weights = Weights {
        search: section.number("search", WEIGHT) as f32,
        cf: section.number("cf", WEIGHT) as f32,
        popularity: section.number("popularity", WEIGHT) as f32,
        freshness: section.number("freshness", WEIGHT) as f32,
    };
    if weights.search + weights.cf + weights.popularity + weights.freshness <= 0.0 {
        section.problem("", "all weights are 0, so nothing would be ranked", None);
    }
    weights
}

fn read_events(section: &Section<'_>) -> EventWeights {
    let events = EventWeights {
        view: section.number("view", WEIGHT) as f32,
        add_to_cart: section.number("add_to_cart", WEIGHT) as f32,
        purchase: section.number("purchase", WEIGHT) as f32,
    };
    if events.view + events.add_to_cart + events.purchase <= 0.0 {
        section.problem("", "all events count 0, so nothing would be popular", None);
    }
    events
}

fn read_fusion(section: &Section<'_>) -> Fusion {
    #[derive(Clone, Copy)]
    enum Method {
        Max,
        Weighted,
        ReciprocalRank,
    }
    let method = section.choice(
        "method",
        &[("max", Method::Max), ("weighted", Method::Weighted), ("rrf", Method::ReciprocalRank)],
    );
    let semantic_weight = section.number("semantic_weight", SHARE) as f32;
    let tie_breaker = section.number("tie_breaker", SHARE) as f32;
    let k = section.number("rrf_k", 1.0..=10_000.0) as f32;
    match method {
        Method::Max => Fusion::Max { semantic_weight, tie_breaker },
        Method::Weighted => Fusion::Weighted { semantic_weight },
        Method::ReciprocalRank => Fusion::ReciprocalRank { k },
    }
}

/// A category path as [`Ranking::by_category`] spells it: `Kitchen>Mugs ` is `kitchen > mugs`.
pub fn category_key(path: &str) -> String {
    let parts: Vec<_> = path
        .split('>')
        .map(|part| part.trim().to_lowercase())
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" > ")
}
