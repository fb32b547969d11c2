//! What the engine decided for one request: its part of the decision record.

use crate::cache::Tier;
use crate::retrieve::Source;

/// A stage and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stage {
    /// `understand`, `history`, `retrieve`, `features`, `rank`, `fields`.
    pub name: &'static str,
    /// Microseconds.
    pub micros: u64,
}

/// What became of one retriever.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It answered.
    Found {
        /// Candidates it gave.
        candidates: usize,
    },
    /// It was left out.
    Failed {
        /// Why.
        why: String,
    },
    /// Its deadline passed and it was left out.
    Late,
}

/// One retriever's part in a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RetrieverReport {
    /// Which.
    pub source: Source,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Microseconds from start to end on its thread.
    pub micros: u64,
}

/// The engine's part of the decision record.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Trace {
    /// In the order they ran.
    pub stages: Vec<Stage>,
    /// Those that applied to the question.
    pub retrievers: Vec<RetrieverReport>,
    /// Version of the index that answered; empty when there is none.
    pub index_version: String,
    /// Revision of the catalogue that answered.
    pub catalog_revision: u64,
    /// Where the candidates were remembered; absent: they were retrieved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Tier>,
    /// Of the whole time, spent waiting for ranking threads; microseconds.
    pub waited_micros: u64,
    /// Why the mode is not `full`, in words.
    pub degraded: Vec<String>,
}
