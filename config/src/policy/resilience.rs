//! `resilience.toml`: deadlines, retries, bounds.

use std::time::Duration;

/// How long a request waits for each thing it can do without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deadlines {
    /// One retriever; late means left out.
    pub retrieve: Duration,
    /// One read of the store (a user's events, product fields); late means unpersonalised.
    pub store: Duration,
    /// The whole of an answer by the engine.
    pub request: Duration,
}

/// How requests reach the shop's own application.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpstreamPolicy {
    /// TCP (and TLS) connection to one server.
    pub connect: Duration,
    /// Between two reads of a response.
    pub read: Duration,
    /// Between two writes of a request.
    pub write: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// Further attempts for idempotent requests whose body can be sent again, 0 to 5.
    pub retries: usize,
}

/// The validated content of `resilience.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Resilience {
    /// Deadlines of the engine.
    pub deadlines: Deadlines,
    /// Ranking work waiting for a thread; more is refused with 503.
    pub max_queue: usize,
    /// Pass-through.
    pub upstream: UpstreamPolicy,
}
