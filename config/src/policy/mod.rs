//! Policy: what an operator may change while traffic flows.
//!
//! One TOML file per concern in the policy folder. All files are parsed, cross-checked and
//! swapped in as one immutable [`Policy`]; a request loads it once and carries it to its end.
//!
//! A file that is missing, and a key that is left out, means the value in the file of the same
//! name in `config/defaults`: those files are the only place where default figures are written.

mod abuse;
mod access;
mod cache;
mod collect;
mod files;
mod limits;
mod query;
mod ranking;
mod resilience;
#[cfg(test)]
mod tests;

pub use abuse::{Abuse, Penalties, RepeatedQuery, SequentialIds};
pub use access::{Access, Entry, List, Target};
pub use cache::{
    Cache, Features as FeatureCache, Layer, PageQuery, PageRule, Pages, Plain as PlainCache,
    Results as ResultCache, Warming,
};
pub use files::{FILES, FileSet, PolicyFile, install_defaults};
pub use limits::{
    Class, Lease, Limit, Limits, Mode as LimitMode, OverLimit, PathPattern, Prices, Refusals, Rule,
    Scope,
};
pub use query::{FieldBoosts, Keyword, Query, Semantic};
pub use ranking::{EventWeights, Fusion, Ranking, Weights, category_key};
pub use resilience::{
    BreakerPolicy, Deadlines, LoadPolicy, RedisPolicy, Resilience, UpstreamPolicy,
};

use crate::problem::{Problem, Problems};
use std::path::Path;

/// The policy in force: every concern, validated together.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Hash of the contents of all files: the first 12 hexadecimal digits of their SHA-256.
    pub version: String,
    /// Hash of what decides which candidates are found and what their features are, not of how they are weighed:
    /// candidates that were found under another policy of the same retrieval are the same.
    pub retrieval: String,
    /// How candidates become an order (`ranking.toml`).
    pub ranking: Ranking,
    /// How a query is read and how wide retrieval looks (`query.toml`).
    pub query: Query,
    /// Deadlines, retries, queue bounds (`resilience.toml`).
    pub resilience: Resilience,
    /// How often one client may ask (`limits.toml`).
    pub limits: Limits,
    /// Who always passes and who never (`access.toml`).
    pub access: Access,
    /// What is remembered, and for how long (`cache.toml`).
    pub cache: Cache,
}

impl Default for Policy {
    /// What a new install starts from: the files of `config/defaults`.
    fn default() -> Self {
        let (policy, _) = Self::from_files(&FileSet::default())
            .expect("a test parses the files of config/defaults");
        policy
    }
}

impl Policy {
    /// Reads the policy folder `dir`: the policy and its warnings, or everything that is wrong.
    ///
    /// A folder that does not exist is an error (it may be a mistyped path or a lost mount); an
    /// empty one means the defaults.
    pub fn load(dir: &Path) -> Result<(Self, Vec<Problem>), Problems> {
        let files = FileSet::collect(dir)?;
        Self::from_files(&files)
    }

    /// Parses and cross-checks the contents of a whole set of files.
    pub fn from_files(files: &FileSet) -> Result<(Self, Vec<Problem>), Problems> {
        let mut reading = files::Reading::of(files);
        let ranking = reading.read("ranking.toml", ranking::read);
        let query = reading.read("query.toml", query::read);
        let policy = Self {
            version: files.version(),
            retrieval: retrieval_version(&ranking, &query),
            ranking,
            query,
            resilience: reading.read("resilience.toml", resilience::read),
            limits: reading.read("limits.toml", limits::read),
            access: reading.read("access.toml", access::read),
            cache: reading.read("cache.toml", cache::read),
        };
        let warnings = reading.finish()?;
        Ok((policy, warnings))
    }
}

/// See [`Policy::retrieval`]: 8 hexadecimal digits.
fn retrieval_version(ranking: &Ranking, query: &Query) -> String {
    use sha2::{Digest, Sha256};
    let Ranking { events, popularity_half_life, freshness_half_life, .. } = ranking;
    let read = format!("{query:?} {events:?} {popularity_half_life:?} {freshness_half_life:?}");
    hex::encode(&Sha256::digest(read)[..4])
}

/// Warnings for category weights no product can use, because `known` says that there is no such
/// category. `known` is asked with paths as [`category_key`] spells them.
pub fn check_categories(policy: &Policy, known: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let unknown = policy.ranking.by_category.keys().filter(|path| !known(path));
    unknown
        .map(|path| {
            let mut warning = Problem::of_file("ranking.toml", "no product has this category");
            warning.key = format!("category_weights.\"{path}\"");
            warning.suggest("check the spelling against the catalogue, or remove these weights")
        })
        .collect()
}
