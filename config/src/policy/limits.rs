//! `limits.toml`: how often one client may ask.

mod path;
mod read;

pub use path::PathPattern;
pub(super) use read::read;

use super::abuse::Abuse;
use std::sync::Arc;
use std::time::Duration;

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Search and its explanation.
    Search,
    /// Lists without a query, and products.
    Recommend,
    /// Events.
    Events,
    /// Everything that goes to the shop's application.
    Passthrough,
}

impl Class {
    /// All of them; a class's position is `class as usize`.
    pub const ALL: [Self; 4] = [Self::Search, Self::Recommend, Self::Events, Self::Passthrough];

    /// As in `limits.toml`, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Recommend => "recommend",
            Self::Events => "events",
            Self::Passthrough => "passthrough",
        }
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of one address (IPv6: of one /64) that come without an API key.
    Address,
    /// Those with one API key.
    Key,
    /// Everybody's.
    Global,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Address, Self::Key, Self::Global];

    /// As in `limits.toml`, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Key => "key",
            Self::Global => "global",
        }
    }
}

/// Two promises: no 60 seconds admit more than `burst`, in the long run `per_minute` are admitted a
/// minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests a minute in the long run, at least 1.
    pub per_minute: u32,
    /// Requests in any 60 seconds, at least [`Limit::least_burst`].
    pub burst: u32,
}

impl Limit {
    /// Most requests a minute of one client.
    pub const MOST_PER_MINUTE: usize = 60_000;
    /// Most requests of one client in any 60 seconds.
    pub const MOST_BURST: usize = u16::MAX as usize;

    /// The least burst with which `per_minute` can be reached: the window is counted in steps of a
    /// twentieth and errs on the side of its promise.
    pub fn least_burst(per_minute: u32) -> u32 {
        per_minute.saturating_add(per_minute.div_ceil(20)).saturating_add(1)
    }

    /// The share of one of `instances` when each must decide alone: together they admit no more than
    /// this limit, unless it is too small to be divided (then each admits at least one request).
    pub fn share(self, instances: u32) -> Self {
        let of = |whole: u32| (whole / instances.max(1)).max(1);
        Self { per_minute: of(self.per_minute), burst: of(self.burst) }
    }
}

/// What becomes of a request that is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// It is answered with 429.
    Refuse,
    /// It is answered from a cache, or in the cheapest mode there is.
    Degrade,
}

impl OverLimit {
    /// As in `limits.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Degrade => "degrade",
        }
    }
}

/// A limit and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `address.search`, or `rules.` and the name the operator gave it.
    pub name: Arc<str>,
    /// Of the name; what is counted is kept under it, whatever else of the rule changes.
    pub id: u32,
    /// Whose requests are counted together.
    pub scope: Scope,
    /// Which requests.
    pub class: Class,
    /// Of these, only those to such a path; `None`: all.
    pub path: Option<PathPattern>,
    /// Of these, only those with such a method, `GET` for `HEAD` too; none named: all.
    pub methods: Vec<String>,
    /// How many.
    pub limit: Limit,
    /// Otherwise only keys with a limit of their own are counted under it.
    pub enabled: bool,
    /// Counted and reported, never refused.
    pub shadow: bool,
    /// What becomes of a request that is over it.
    pub over_limit: OverLimit,
    /// A request counts what it costs ([`Prices`]); otherwise one.
    pub weighs: bool,
}

/// What a request costs beyond one, where a rule weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// So many results asked for (`k`) are in the price, every further so many cost one more; 0: all
    /// are.
    pub per_results: u32,
    /// What semantic retrieval costs.
    pub semantic: u32,
}

impl Prices {
    /// The cost of asking for `k` results, with or without semantic retrieval; at least 1.
    pub fn of(self, k: usize, semantic: bool) -> u32 {
        let more = match self.per_results {
            0 => 0,
            per => (u32::try_from(k).unwrap_or(u32::MAX)).saturating_sub(1) / per,
        };
        1_u32.saturating_add(more).saturating_add(if semantic { self.semantic } else { 0 })
    }
}

/// How a fleet counts together, where there is a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Redis is asked about every request: exact.
    Strict,
    /// Requests are taken from Redis in batches.
    Leased,
}

/// How large a batch is that an instance takes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Largest batch in hundredths of a rule's burst, 1 to 50.
    pub percent: u32,
    /// What is not used by then is lost.
    pub lives: Duration,
}

impl Lease {
    /// The largest batch under `limit`, at least 1.
    pub fn most(self, limit: Limit) -> u32 {
        (u64::from(limit.burst) * u64::from(self.percent) / 100).max(1) as u32
    }
}

/// How fast one client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusals {
    /// Refusals of one client that are answered at once in a second, at least 1; further ones wait their
    /// turn at this pace.
    pub per_second: u32,
    /// None waits longer; zero: none waits.
    pub longest_pause: Duration,
    /// Requests that wait at once; further ones are answered at once.
    pub max_paused: usize,
}

/// The validated content of `limits.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Clients counted at once.
    pub max_clients: usize,
    /// How a fleet counts together.
    pub mode: Mode,
    /// Batches of [`Mode::Leased`], and of global rules in either mode.
    pub lease: Lease,
    /// What a request costs.
    pub prices: Prices,
    /// Instances that the limits are divided by at least, when each must decide alone.
    pub least_instances: u32,
    /// How fast one client is refused.
    pub refusals: Refusals,
    /// What is taken for abuse, and what follows.
    pub abuse: Abuse,
    /// All rules; none when nothing is limited.
    pub rules: Vec<Rule>,
}

impl Rule {
    /// It is one of those every installation has, and not the operator's own.
    pub fn is_built_in(&self) -> bool {
        !self.name.starts_with("rules.")
    }

    /// It may keep a request from passing. Others are asked about what those that may let pass.
    pub fn refuses(&self) -> bool {
        !self.shadow && self.over_limit == OverLimit::Refuse
    }

    /// Applications take `post` for `POST`, and do for `HEAD` all they do for `GET`.
    fn is_about_method(&self, method: &str) -> bool {
        let meant = |known: &String| {
            known.eq_ignore_ascii_case(method)
                || (known == "GET" && method.eq_ignore_ascii_case("HEAD"))
        };
        self.methods.is_empty() || self.methods.iter().any(meant)
    }
}

impl Limits {
    /// The rules about a request, disabled ones too: `path` as [`PathPattern::folded`] has it.
    pub fn about<'l>(
        &'l self,
        scope: Scope,
        class: Class,
        method: &'l str,
        path: &'l str,
    ) -> impl Iterator<Item = &'l Rule> {
        self.rules.iter().filter(move |rule| {
            rule.scope == scope
                && rule.class == class
                && rule.path.as_ref().is_none_or(|pattern| pattern.matches(path))
                && rule.is_about_method(method)
        })
    }

    /// A request's path as the rules of its class compare it; empty where none looks at paths.
    pub fn path_of(&self, class: Class, path: &[u8]) -> String {
        let looked_at = self.rules.iter().any(|rule| rule.class == class && rule.path.is_some());
        if looked_at { PathPattern::folded(path) } else { String::new() }
    }
}
