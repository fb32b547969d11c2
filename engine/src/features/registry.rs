//! The features there are, as data.

/// What one feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FeatureInfo {
    /// As in `explain`.
    pub name: &'static str,
    /// Of what: `product` or `user`.
    pub entity: &'static str,
    /// Type and unit.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// How old it may be, in seconds.
    pub staleness_seconds: u32,
    /// Grows when its meaning changes.
    pub version: u32,
}

/// Every feature that ranking reads.
pub const FEATURES: [FeatureInfo; 4] = [
    FeatureInfo {
        name: "popularity",
        entity: "product",
        unit: "f32 in [0, 1]",
        source: "events, weighted by kind, time-decayed, log-scaled to the most popular product",
        staleness_seconds: 300,
        version: 1,
    },
    FeatureInfo {
        name: "freshness",
        entity: "product",
        unit: "f32 in [0, 1]",
        source: "products.created_at, halved every half-life",
        staleness_seconds: 0,
        version: 1,
    },
    FeatureInfo {
        name: "cf",
        entity: "user, product",
        unit: "f32 in [0, 1]",
        source: "the collaborative retriever; 0 where there is none",
        staleness_seconds: 0,
        version: 1,
    },
    FeatureInfo {
        name: "taste",
        entity: "user",
        unit: "f32 in [0, 1] per category",
        source: "the user's latest events, weighted by kind, time-decayed",
        staleness_seconds: 0,
        version: 1,
    },
];
