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

/// What is asked of Redis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RedisPolicy {
    /// One operation; later than that the caller goes on without it.
    pub timeout: Duration,
}

/// When a breaker opens, for how long, and how it closes again. One set for every dependency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it, 1 to 1,000.
    pub consecutive_failures: u32,
    /// Calls in the last minute below which shares say nothing, 1 to 1,000,000.
    pub min_calls: u32,
    /// Share of failures in the last minute that opens it, in (0, 1].
    pub error_rate: f64,
    /// A call that takes longer is slow.
    pub slow_call: Duration,
    /// Share of slow calls in the last minute that opens it, in (0, 1].
    pub slow_rate: f64,
    /// How long it stays open the first time; twice as long each time it opens again.
    pub open: Duration,
    /// The longest it stays open.
    pub max_open: Duration,
    /// Share of calls that pass while half-open, in (0, 1].
    pub half_open_share: f64,
    /// A passed call without verdict for so long counts as failed.
    pub probe_timeout: Duration,
    /// Successes while half-open that close it, 1 to 100.
    pub close_after: u32,
}

/// How much the engine does at once, and what it leaves out when that is too little. Shares are of the
/// limit; one of 0 has the rung begin at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadPolicy {
    /// Off: every answer is computed in full, whatever waits.
    pub enabled: bool,
    /// The limit never falls below so many answers in full.
    pub min_limit: u32,
    /// The limit never rises above so many.
    pub max_limit: u32,
    /// An answer may take so many times as long as it would without waiting.
    pub tolerance: f64,
    /// Waiting so long for ranking threads is all right besides.
    pub wait: Duration,
    /// Share in use from which semantic retrieval is left out.
    pub keyword_only: f64,
    /// … from which the user's history is not read.
    pub unpersonalised: f64,
    /// … from which an older answer is better than a new one.
    pub stale: f64,
    /// … from which only what is popular is answered.
    pub popular: f64,
    /// … from which nothing is.
    pub refuse: f64,
    /// Share in use below which work that nobody waits for may begin.
    pub background: f64,
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
    /// Redis.
    pub redis: RedisPolicy,
    /// Every breaker.
    pub breaker: BreakerPolicy,
    /// The engine's load.
    pub load: LoadPolicy,
}

const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);

/// Never none: a share of nothing would open at once, or never let a probe through.
const SHARE: RangeInclusive<f64> = 0.001..=1.0;
/// Shorter than this and a breaker protects nothing.
const OPEN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// Answers that are computed at once.
const MOST_AT_ONCE: usize = 100_000;
/// Shares of the limit; more than 1 is in use where cheap answers come on top.
const RUNG: RangeInclusive<f64> = 0.0..=10.0;
const PROBE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(1);

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
        redis: file.table("redis", |section| RedisPolicy {
            timeout: section.duration("timeout", DEADLINE),
        }),
        breaker: file.table("breaker", read_breaker),
        load: file.table("load", read_load),
    }
}

fn read_load(section: &Section<'_>) -> LoadPolicy {
    let load = LoadPolicy {
        enabled: section.flag("enabled"),
        min_limit: section.count("min_limit", 1..=MOST_AT_ONCE) as u32,
        max_limit: section.count("max_limit", 1..=MOST_AT_ONCE) as u32,
        tolerance: section.number("tolerance", 1.0..=10.0),
        wait: section.duration("wait", Duration::ZERO..=Duration::from_secs(10)),
        keyword_only: section.number("keyword_only", RUNG),
        unpersonalised: section.number("unpersonalised", RUNG),
        stale: section.number("stale", RUNG),
        popular: section.number("popular", RUNG),
        refuse: section.number("refuse", 1.0..=100.0),
        background: section.number("background", 0.0..=1.0),
    };
    if load.max_limit < load.min_limit {
        let advice = "raise max_limit or lower min_limit".to_owned();
        section.problem("max_limit", "is less than min_limit", Some(advice));
    }
    let rungs = [
        ("keyword_only", load.keyword_only),
        ("unpersonalised", load.unpersonalised),
        ("stale", load.stale),
        ("popular", load.popular),
        ("refuse", load.refuse),
    ];
    for pair in rungs.windows(2) {
        let ((better, begins), (key, share)) = (pair[0], pair[1]);
        if share < begins {
            let message = format!("begins before {better}, which does more");
            let advice = format!("write {begins} or more, or lower {better}");
            section.problem(key, &message, Some(advice));
        }
    }
    load
}

fn read_breaker(section: &Section<'_>) -> BreakerPolicy {
    let breaker = BreakerPolicy {
        consecutive_failures: section.count("consecutive_failures", 1..=1_000) as u32,
        min_calls: section.count("min_calls", 1..=1_000_000) as u32,
        error_rate: section.number("error_rate", SHARE),
        slow_call: section.duration("slow_call", TIMEOUT),
        slow_rate: section.number("slow_rate", SHARE),
        open: section.duration("open", OPEN),
        max_open: section.duration("max_open", OPEN),
        half_open_share: section.number("half_open_share", SHARE),
        probe_timeout: section.duration("probe_timeout", PROBE),
        close_after: section.count("close_after", 1..=100) as u32,
    };
    if breaker.max_open < breaker.open {
        let advice = "raise max_open or lower open".to_owned();
        section.problem("max_open", "is shorter than open", Some(advice));
    }
    breaker
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
