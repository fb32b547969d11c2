//! Whether a request may pass.
//!
//! Rules are policy (`limits.toml`) and read with every request; what was counted is kept here and
//! outlives a change of the rules.

mod clients;
pub mod lists;
mod meter;

pub use clients::{Clients, Counted};
pub use meter::{Judgement, Meter};

use crate::respond::{Kind, Problem, whole_seconds};
use crate::route::Endpoint;
use penstock_config::policy::{Class, Limit, Limits};
use serde::Serialize;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a request of this endpoint is counted as; `None`: it always passes.
pub fn class_of(endpoint: Endpoint) -> Option<Class> {
    match endpoint {
        Endpoint::Search | Endpoint::Explain => Some(Class::Search),
        Endpoint::Recommend | Endpoint::Similar | Endpoint::Popular | Endpoint::Product => {
            Some(Class::Recommend)
        }
        Endpoint::Events => Some(Class::Events),
        Endpoint::Upstream => Some(Class::Passthrough),
        // A balancer that asks often must not take a healthy instance for a dead one.
        Endpoint::Health => None,
    }
}

/// What became of a request under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Admitted,
    /// It did not.
    Refused,
    /// It passed because the rule is a shadow.
    WouldRefuse,
}

/// What a rule said about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whose requests were counted.
    pub scope: &'static str,
    /// As what.
    pub class: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// Requests in any 60 seconds.
    pub limit: u32,
    /// Of these, left.
    pub remaining: u32,
    /// Until one more would pass, whole seconds rounded up; absent when one would now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// Until all of the limit is there again, whole seconds rounded up.
    pub reset_seconds: u64,
}

/// Counts requests and refuses those that are too many.
#[derive(Debug)]
pub struct Admission {
    clients: Clients,
    began: Instant,
}

impl Admission {
    /// Nobody has asked yet.
    pub fn new(now: Instant) -> Self {
        Self { clients: Clients::default(), began: now }
    }

    /// Judges and counts a request; `None`: no rule is about it.
    pub fn judge(
        &self,
        limits: &Limits,
        class: Class,
        address: IpAddr,
        now: Instant,
    ) -> Option<Verdict> {
        let limit = limits.of_address(class)?;
        let since = now.saturating_duration_since(self.began).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let who = Counted::by_address(class, address);
        Some(verdict(class, limit, self.clients.ask(who, since, limit, limits.max_clients)))
    }

    /// Clients that are counted.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }
}

fn verdict(class: Class, limit: &Limit, judged: Judgement) -> Verdict {
    let outcome = match (judged.admitted, limit.shadow) {
        (true, _) => Outcome::Admitted,
        (false, true) => Outcome::WouldRefuse,
        (false, false) => Outcome::Refused,
    };
    let wait = whole_seconds(judged.retry_after);
    Verdict {
        scope: "address",
        class: class.name(),
        outcome,
        limit: limit.burst,
        remaining: judged.remaining,
        retry_after_seconds: (wait > 0).then_some(wait),
        reset_seconds: whole_seconds(judged.reset),
    }
}

impl Verdict {
    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<Problem> {
        if self.outcome != Outcome::Refused {
            return None;
        }
        let wait = self.retry_after_seconds.unwrap_or(1);
        let detail = format!(
            "more than {} {} requests in a minute from your address; the next one passes in {wait} s",
            self.limit, self.class
        );
        Some(Problem::new(Kind::TooManyRequests, detail).retry_after(Duration::from_secs(wait)))
    }

    /// The response headers that tell it, `(name, value)`: the customary ones, and those of the IETF
    /// draft "RateLimit header fields for HTTP". None for shadow rules.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        if self.outcome == Outcome::WouldRefuse {
            return Vec::new();
        }
        let Self { class, limit, remaining, reset_seconds, .. } = self;
        let refilled = self.retry_after_seconds.unwrap_or(*reset_seconds);
        vec![
            ("X-RateLimit-Limit", limit.to_string()),
            ("X-RateLimit-Remaining", remaining.to_string()),
            ("X-RateLimit-Reset", reset_seconds.to_string()),
            ("RateLimit-Policy", format!("\"{class}\";q={limit};w=60")),
            ("RateLimit", format!("\"{class}\";r={remaining};t={refilled}")),
        ]
    }
}

#[cfg(test)]
mod tests;
