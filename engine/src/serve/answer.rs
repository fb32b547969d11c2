//! The answers, and why there is none.

use super::Trace;
use crate::resilience::Mode;
use crate::store::StoreError;
use std::time::Duration;

/// One result. Serialises as the HTTP contract has it: `product_id, score, reason` and the fields
/// that were asked for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Item {
    /// The shop's id.
    pub product_id: String,
    /// The final score of the ranking formula.
    pub score: f32,
    /// Why it is here, for a person.
    pub reason: String,
    /// The fields asked for, in their order.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// What the engine made of a question.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Best first; ties by the product's number, so the same inputs give the same order.
    pub items: Vec<Item>,
    /// How much of the job was done.
    pub mode: Mode,
    /// Everything that was decided.
    pub trace: Trace,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The client's fault: 400. A sentence a person can act on.
    #[error("{0}")]
    BadAsk(String),
    /// No such product: 404.
    #[error("no product has the id {0:?}")]
    UnknownProduct(String),
    /// No catalogue has been loaded: 503.
    #[error("the catalogue is not loaded yet: {0}")]
    NotReady(String),
    /// Too much work waits: 503 with `Retry-After`.
    #[error("too many requests are waiting for the ranking engine")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Ranking panicked, a bug: 500. Asking the same again fails the same.
    #[error("the ranking engine failed on this request; the log says where")]
    Panicked,
    /// The store failed where nothing can replace it: 503.
    #[error(transparent)]
    Store(#[from] StoreError),
}
