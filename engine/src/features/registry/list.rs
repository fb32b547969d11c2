//! The list itself.

use super::Entity::{Product, User, UserAndProduct};
use super::MadeBy::{Job, Request, Shop};
use super::{FeatureInfo, Limits, Lineage};

const UNIT_RANGE: Option<(f64, f64)> = Some((0.0, 1.0));
const WEIGHTS_AND_DECAY: &[&str] = &["ranking.events", "ranking.popularity.half_life"];

/// A job that runs every five minutes may fail once.
const TEN_MINUTES: u32 = 600;
/// A job that runs every day may be some hours late.
const A_DAY_AND_A_HALF: u32 = 36 * 3_600;

/// Every feature.
pub const FEATURES: &[FeatureInfo] = &[
    FeatureInfo {
        name: "search",
        entity: UserAndProduct,
        kind: "f32",
        unit: "match in [0, 1]",
        source: "keyword and semantic retrieval, fused",
        version: 1,
        staleness_seconds: 0,
        default: "0",
        owner: "retrieve",
        lineage: Lineage {
            columns: &[
                "products.name",
                "products.description",
                "products.category",
                "products.brand",
            ],
            features: &[],
            policy: &["query", "ranking.fusion"],
            made_by: Request,
        },
        limits: Limits { most_nulls: 1.0, range: UNIT_RANGE },
    },
    FeatureInfo {
        name: "cf",
        entity: UserAndProduct,
        kind: "f32",
        unit: "affinity in [0, 1]",
        source: "the collaborative retriever; 0 where there is none",
        version: 1,
        staleness_seconds: 0,
        default: "0",
        owner: "retrieve",
        lineage: Lineage { columns: &["events"], features: &[], policy: &[], made_by: Request },
        limits: Limits { most_nulls: 1.0, range: UNIT_RANGE },
    },
    FeatureInfo {
        name: "popularity",
        entity: Product,
        kind: "f32",
        unit: "share in [0, 1], logarithmic, of the most popular product",
        source: "events, weighted by kind, time-decayed; the shop's figure where there are none",
        version: 1,
        staleness_seconds: TEN_MINUTES,
        default: "0",
        owner: "features",
        lineage: Lineage {
            columns: &["events.event_type", "events.timestamp", "products.popularity"],
            features: &["popularity_figure"],
            policy: WEIGHTS_AND_DECAY,
            made_by: Job("popularity"),
        },
        // Most of a catalogue may never have been touched.
        limits: Limits { most_nulls: 1.0, range: UNIT_RANGE },
    },
    FeatureInfo {
        name: "freshness",
        entity: Product,
        kind: "f32",
        unit: "share in [0, 1], halved every half-life of age",
        source: "when the shop added the product; computed again in each request, stored for training",
        version: 1,
        staleness_seconds: A_DAY_AND_A_HALF,
        default: "0",
        owner: "features",
        lineage: Lineage {
            columns: &["products.created_at"],
            features: &[],
            policy: &["ranking.freshness.half_life"],
            made_by: Job("freshness"),
        },
        limits: Limits { most_nulls: 0.5, range: UNIT_RANGE },
    },
    FeatureInfo {
        name: "price",
        entity: Product,
        kind: "f64",
        unit: "the shop's currency",
        source: "the shop's catalogue",
        version: 1,
        staleness_seconds: 0,
        default: "none: filters by price leave the product out",
        owner: "catalog",
        lineage: Lineage {
            columns: &["products.price"],
            features: &[],
            policy: &[],
            made_by: Shop,
        },
        limits: Limits { most_nulls: 0.5, range: Some((0.0, f64::MAX)) },
    },
    FeatureInfo {
        name: "popularity_figure",
        entity: Product,
        kind: "f64",
        unit: "whatever the shop counts",
        source: "the shop's catalogue",
        version: 1,
        staleness_seconds: 0,
        default: "0",
        owner: "catalog",
        lineage: Lineage {
            columns: &["products.popularity"],
            features: &[],
            policy: &[],
            made_by: Shop,
        },
        limits: Limits { most_nulls: 1.0, range: Some((0.0, f64::MAX)) },
    },
    FeatureInfo {
        name: super::super::AFFINITY,
        entity: User,
        kind: "json",
        unit: "affinity in [0, 1] by category, the strongest is 1; at most 20 categories",
        source: "all of a user's events, weighted by kind, halved every 90 days before the latest",
        version: 1,
        staleness_seconds: A_DAY_AND_A_HALF,
        default: "no categories",
        owner: "features",
        lineage: Lineage {
            columns: &[
                "events.user_id",
                "events.product_id",
                "events.event_type",
                "events.timestamp",
                "products.category",
            ],
            features: &[],
            policy: &["ranking.events"],
            made_by: Job(super::super::AFFINITY),
        },
        limits: Limits { most_nulls: 0.5, range: None },
    },
    FeatureInfo {
        name: "taste",
        entity: User,
        kind: "json",
        unit: "affinity in [0, 1] by category, the strongest is 1",
        source: "the user's latest events, weighted by kind, time-decayed; long-term affinity behind them",
        version: 2,
        staleness_seconds: 0,
        default: "no categories: what is popular with everybody",
        owner: "features",
        lineage: Lineage {
            columns: &[
                "events.product_id",
                "events.event_type",
                "events.timestamp",
                "products.category",
            ],
            features: &[super::super::AFFINITY],
            policy: WEIGHTS_AND_DECAY,
            made_by: Request,
        },
        limits: Limits { most_nulls: 1.0, range: None },
    },
];
