//! `limits.toml`: how often one client may ask.

use super::abuse::{self, Abuse};
use crate::read::Section;

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

/// A rule: no 60 seconds admit more than `burst`, in the long run `per_minute` are admitted a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests a minute in the long run, 1 to 60,000.
    pub per_minute: u32,
    /// Requests in any 60 seconds, up to 65,535.
    pub burst: u32,
    /// Counted and reported, never refused.
    pub shadow: bool,
}

/// The validated content of `limits.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Clients counted at once.
    pub max_clients: usize,
    /// Per client address, by [`Class`]; `None`: not limited.
    pub address: [Option<Limit>; Class::ALL.len()],
    /// What is taken for abuse, and what follows.
    pub abuse: Abuse,
}

impl Limits {
    /// The rule for addresses in this class.
    pub fn of_address(&self, class: Class) -> Option<&Limit> {
        self.address[class as usize].as_ref()
    }
}

pub(super) fn read(file: &Section<'_>) -> Limits {
    let enabled = file.flag("enabled");
    Limits {
        max_clients: file.count("max_clients", 1_000..=100_000_000),
        address: file.table("address", |scope| {
            Class::ALL.map(|class| scope.table(class.name(), read_limit).filter(|_| enabled))
        }),
        abuse: file.table("abuse", |section| abuse::read(section, enabled)),
    }
}

fn read_limit(section: &Section<'_>) -> Option<Limit> {
    let enabled = section.flag("enabled");
    let limit = Limit {
        per_minute: section.count("per_minute", 1..=60_000) as u32,
        burst: section.count("burst", 1..=65_535) as u32,
        shadow: section.flag("shadow"),
    };
    // The window is counted in steps of a twentieth and errs on the side of the promise.
    let least = limit.per_minute + limit.per_minute.div_ceil(20) + 1;
    if limit.burst < least {
        let message = "no minute may admit more than burst, so per_minute cannot be reached";
        let advice = format!("write {least} or more, or lower per_minute");
        section.problem("burst", message, Some(advice));
    }
    enabled.then_some(limit)
}
