//! Whether a request may pass.
//!
//! Rules are policy (`limits.toml`) and read with every request; what was counted is kept here and
//! outlives a change of the rules. All rules about a request must admit it, and it is counted under
//! all of them or under none.

pub mod abuse;
pub mod gate;
pub mod lists;
mod local;
mod meter;
mod pace;
mod shared;
mod table;
mod verdict;
mod violations;
mod who;

pub use meter::{Judgement, Meter};
pub use shared::Shared;
pub use verdict::{By, Outcome, Verdict, headers};
pub use violations::Violations;
pub use who::{NobodyError, Who};

use crate::route::Endpoint;
use abuse::{Detector, Flagged, Penalty};
use local::Local;
use pace::{Pace, Paused};
use penstock_config::policy::{Abuse, Class, Limit, Limits, Resilience, Rule, Scope};
use penstock_engine::redis::Link;
use std::sync::Arc;
use std::time::Instant;

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

/// A request, as far as limits go.
#[derive(Debug, Clone)]
pub struct Asked<'r> {
    /// The rules.
    pub limits: &'r Limits,
    /// What it is counted as.
    pub class: Class,
    /// Its method.
    pub method: &'r str,
    /// Its path, folded; empty where no rule of the class looks at paths.
    pub path: String,
    /// Whose it is.
    pub who: Who,
    /// Limits of the client's own, by [`Class`], in place of those of `key.…`.
    pub own_limits: [Option<Limit>; Class::ALL.len()],
    /// What it costs under a rule that weighs.
    pub cost: u32,
}

/// A rule about a request, and what it asks of it.
#[derive(Debug, Clone, Copy)]
struct Charge<'r> {
    rule: &'r Rule,
    limit: Limit,
    cost: u32,
}

impl Charge<'_> {
    fn verdict(&self, by: By, judged: Judgement) -> Verdict {
        Verdict::of(self.rule, self.limit.burst, self.cost, by, judged)
    }
}

impl Asked<'_> {
    /// The rules about it, those of its client first.
    fn charges(&self) -> impl Iterator<Item = Charge<'_>> {
        let scope = match self.who {
            Who::Key(_) => Scope::Key,
            _ => Scope::Address,
        };
        let about = |scope| self.limits.about(scope, self.class, self.method, &self.path);
        about(scope).chain(about(Scope::Global)).filter_map(|rule| self.charge(rule))
    }

    fn charge<'s>(&'s self, rule: &'s Rule) -> Option<Charge<'s>> {
        let own = self.own_limits[self.class as usize]
            .filter(|_| rule.scope == Scope::Key && rule.is_built_in());
        let limit = own.or_else(|| rule.enabled.then_some(rule.limit))?;
        let cost = if rule.weighs { self.cost } else { 1 };
        Some(Charge { rule, limit, cost })
    }
}

/// Counts requests and refuses those that are too many.
#[derive(Debug)]
pub struct Admission {
    counting: Counting,
    abuse: Detector,
    /// Refusals in the log.
    pub violations: Violations,
    pace: Pace,
    began: Instant,
}

/// Where requests are counted.
#[derive(Debug)]
enum Counting {
    Here(Local),
    Together(Shared),
}

impl Admission {
    /// Nobody has asked yet; with `link`, a fleet counts together.
    pub fn new(now: Instant, link: Option<Arc<Link>>) -> Self {
        let counting = match link {
            None => Counting::Here(Local::default()),
            Some(link) => Counting::Together(Shared::new(link)),
        };
        Self {
            counting,
            abuse: Detector::default(),
            violations: Violations::default(),
            pace: Pace::default(),
            began: now,
        }
    }

    /// Judges and counts a request. The verdicts of all rules about it, up to the first that refuses.
    pub async fn judge(
        &self,
        asked: &Asked<'_>,
        resilience: &Resilience,
        now: Instant,
    ) -> Vec<Verdict> {
        let now = self.micros(now);
        match &self.counting {
            Counting::Here(local) => local.judge(asked, now),
            Counting::Together(shared) => shared.judge(asked, resilience, now).await,
        }
    }

    /// The pause before the answer to a request of `who` that is refused, if there is one.
    pub fn pause(&self, limits: &Limits, who: Who, now: Instant) -> Option<Paused<'_>> {
        self.pace.pause(&limits.refusals, who, limits.max_clients, self.micros(now))
    }

    /// Requests that wait for their refusal.
    pub fn paused(&self) -> usize {
        self.pace.paused()
    }

    /// Looks for abuse in a request of `who`; the penalty that is about it.
    pub fn look(
        &self,
        policy: &Abuse,
        who: Who,
        asked: abuse::Asked<'_>,
        now: Instant,
    ) -> Option<Penalty> {
        self.abuse.look(policy, who, asked, self.nanos(now))
    }

    /// Who was found out, the latest first. `unix_micros`: the same moment as `now`.
    pub fn flagged(&self, policy: &Abuse, now: Instant, unix_micros: i64) -> Vec<Flagged> {
        self.abuse.flagged(policy, self.nanos(now), unix_micros)
    }

    /// Takes over what others, or an earlier process, found out; how many rows were news.
    pub fn import(
        &self,
        policy: &Abuse,
        rows: &[Flagged],
        now: Instant,
        unix_micros: i64,
    ) -> usize {
        self.abuse.import(policy, rows, self.nanos(now), unix_micros)
    }

    /// Takes every penalty and suspicion off a client; `false`: there was none.
    pub fn pardon(&self, who: Who) -> bool {
        self.abuse.pardon(who)
    }

    /// Clients on the list of those who were found out.
    pub fn flagged_count(&self) -> usize {
        self.abuse.remembered().flagged
    }

    /// Tells a Redis that is back what was admitted without it, if anything was; `lost`: and everything
    /// else, since it lost its data.
    pub async fn settle(&self, limits: &Limits, resilience: &Resilience, lost: bool, now: Instant) {
        if let Some(shared) = self.shared().filter(|shared| lost || shared.is_alone()) {
            shared.settle(limits, resilience, lost, self.micros(now)).await;
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// What this instance counted of a client: rule, requests, and what it may have of them.
    pub fn used(&self, limits: &Limits, who: Who, now: Instant) -> Vec<(Arc<str>, u32, u32)> {
        let now = self.micros(now);
        let used = |rule: &Rule| {
            let counted = who::Counted { who, rule: rule.id };
            let used = match &self.counting {
                Counting::Here(local) => local.used(counted, now, rule.limit),
                Counting::Together(shared) => shared.used(counted, now, rule.limit),
            };
            Some((rule.name.clone(), used?, rule.limit.burst))
        };
        limits.rules.iter().filter_map(used).collect()
    }

    /// What is counted with the rest of the fleet, if it is.
    pub fn shared(&self) -> Option<&Shared> {
        match &self.counting {
            Counting::Here(_) => None,
            Counting::Together(shared) => Some(shared),
        }
    }

    /// Clients that are counted.
    pub fn clients(&self) -> usize {
        match &self.counting {
            Counting::Here(local) => local.clients(),
            Counting::Together(shared) => shared.clients(),
        }
    }
}

#[cfg(test)]
mod tests;
