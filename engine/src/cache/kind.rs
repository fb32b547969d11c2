//! The layers and the tiers, by name.

use penstock_config::policy::{Cache, Layer};

/// A layer: what kind of thing is remembered. One cache each, all of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Whole answers.
    Results,
    /// What was found for a query, with its features.
    Candidates,
    /// Features of products and users.
    Features,
    /// Ranking weights by category.
    Ranking,
    /// Popular products.
    Popular,
}

impl CacheKind {
    /// All of them; one's position is `kind as usize`.
    pub const ALL: [Self; 5] =
        [Self::Results, Self::Candidates, Self::Features, Self::Ranking, Self::Popular];

    /// What the policy says of it.
    pub fn layer(self, cache: &Cache) -> Layer {
        match self {
            Self::Results => cache.results.layer,
            Self::Candidates => cache.candidates.layer,
            Self::Features => cache.features.layer,
            Self::Ranking => cache.ranking.layer,
            Self::Popular => cache.popular.layer,
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// As in keys, metrics (`cache_type`) and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Candidates => "candidates",
            Self::Features => "features",
            Self::Ranking => "ranking",
            Self::Popular => "popular",
        }
    }
}

const _: () = {
    let mut at = 0;
    while at < CacheKind::ALL.len() {
        assert!(CacheKind::ALL[at] as usize == at, "a kind's position is its number");
        at += 1;
    }
    assert!(
        CacheKind::Popular as usize + 1 == CacheKind::ALL.len(),
        "the last kind is in the list"
    );
};

/// Where something remembered was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Memory of this process.
    L1,
    /// Redis.
    L2,
}

impl Tier {
    /// Both; one's position is `tier as usize`.
    pub const ALL: [Self; 2] = [Self::L1, Self::L2];

    /// As in metrics (`cache_layer`).
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}
