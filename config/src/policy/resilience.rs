//! `resilience.toml`: deadlines, retries, bounds.

use crate::read::Section;
use std::ops::RangeInclusive;
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

const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);

pub(super) fn read(file: &Section<'_>) -> Resilience {
    Resilience {
        deadlines: file.table("deadlines", read_deadlines),
        max_queue: file.table("engine", |section| section.count("max_queue", 1..=1_000_000)),
        upstream: file.table("upstream", |section| UpstreamPolicy {
            connect: section.duration("connect", TIMEOUT),
            read: section.duration("read", TIMEOUT),
            write: section.duration("write", TIMEOUT),
            idle: section.duration("idle", TIMEOUT),
            retries: section.count("retries", 0..=5),
        }),
    }
}

fn read_deadlines(section: &Section<'_>) -> Deadlines {
    let deadlines = Deadlines {
        retrieve: section.duration("retrieve", DEADLINE),
        store: section.duration("store", DEADLINE),
        request: section.duration("request", DEADLINE),
    };
    for (key, part) in [("retrieve", deadlines.retrieve), ("store", deadlines.store)] {
        if part > deadlines.request {
            let message = "is longer than the deadline of the whole request, which ends first";
            section.warning(key, message, None);
        }
    }
    deadlines
}
