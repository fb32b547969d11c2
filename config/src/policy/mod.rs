//! Policy: what an operator may change while traffic flows.
//!
//! One TOML file per concern in the policy folder. All files are parsed, cross-checked and
//! swapped in as one immutable [`Policy`]; a request loads it once and carries it to its end.

mod query;
mod ranking;
mod resilience;

pub use query::{FieldBoosts, Keyword, Query, Semantic};
pub use ranking::{EventWeights, Fusion, Ranking, Weights};
pub use resilience::{Deadlines, Resilience, UpstreamPolicy};

/// The policy in force: every concern, validated together.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Hash of the contents of all files: the first 12 hexadecimal digits of their SHA-256.
    pub version: String,
    /// How candidates become an order (`ranking.toml`).
    pub ranking: Ranking,
    /// How a query is read and how wide retrieval looks (`query.toml`).
    pub query: Query,
    /// Deadlines, retries, queue bounds (`resilience.toml`).
    pub resilience: Resilience,
}

impl Default for Policy {
    /// What a new install starts from: the files of `config/defaults`.
    fn default() -> Self {
        use std::time::Duration;
        let day = Duration::from_secs(86_400);
        Self {
            version: "builtin".into(),
            ranking: Ranking {
                weights: Weights {
                    search: 0.4,
                    cf: 0.3,
                    popularity: 0.2,
                    freshness: 0.1,
                },
                by_category: std::collections::BTreeMap::new(),
                events: EventWeights {
                    view: 1.0,
                    add_to_cart: 2.0,
                    purchase: 3.0,
                },
                popularity_half_life: 30 * day,
                freshness_half_life: 60 * day,
                fusion: Fusion::Max {
                    semantic_weight: 0.8,
                },
            },
            query: Query {
                max_chars: 512,
                max_terms: 32,
                keyword: Keyword {
                    boosts: FieldBoosts {
                        name: 3.0,
                        brand: 2.0,
                        category: 1.0,
                        description: 0.5,
                    },
                    candidates: 200,
                },
                semantic: Semantic {
                    enabled: true,
                    candidates: 100,
                    min_similarity: 0.2,
                },
            },
            resilience: Resilience {
                deadlines: Deadlines {
                    retrieve: Duration::from_millis(80),
                    store: Duration::from_millis(50),
                    request: Duration::from_millis(180),
                },
                max_queue: 1_000,
                upstream: UpstreamPolicy {
                    connect: Duration::from_secs(2),
                    read: Duration::from_secs(30),
                    write: Duration::from_secs(30),
                    idle: Duration::from_secs(60),
                    retries: 1,
                },
            },
        }
    }
}
