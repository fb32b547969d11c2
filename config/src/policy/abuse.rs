//! `[abuse]` in `limits.toml`: what is taken for abuse, and what follows.

use crate::read::Section;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One client asks the same thing over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatedQuery {
    /// Looked for at all.
    pub enabled: bool,
    /// The same query so often in 60 seconds is still all right, 1 to 250.
    pub per_minute: u8,
}

/// One client walks through the catalogue by its product ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequentialIds {
    /// Looked for at all.
    pub enabled: bool,
    /// So many ids with equal distances are a walk, 5 to 250.
    pub run: u8,
    /// The longest pause inside a walk.
    pub within: Duration,
    /// The largest distance between two ids of a walk, 1 to 120.
    pub max_stride: u8,
}

/// How long an offender is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Penalties {
    /// For the first offence.
    pub first: Duration,
    /// Each further one lasts so many times as long, 1 to 100.
    pub factor: u32,
    /// No penalty is longer.
    pub longest: Duration,
    /// Without another offence for so long after a penalty, the next one is a first one.
    pub forget_after: Duration,
}

/// The validated content of `[abuse]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abuse {
    /// Looked for at all.
    pub enabled: bool,
    /// Detected, counted and listed; never refused.
    pub shadow: bool,
    /// Clients remembered at once, and as many queries.
    pub max_clients: usize,
    /// Offenders listed at once.
    pub max_flagged: usize,
    /// The same query too often.
    pub repeated_query: RepeatedQuery,
    /// Product ids in sequence.
    pub sequential_ids: SequentialIds,
    /// What follows.
    pub penalty: Penalties,
}

const PAUSE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const PENALTY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);
const MEMORY: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(365 * 24);

/// `enabled`: limits as a whole are.
pub(super) fn read(section: &Section<'_>, enabled: bool) -> Abuse {
    Abuse {
        enabled: section.flag("enabled") && enabled,
        shadow: section.flag("shadow"),
        max_clients: section.count("max_clients", 1_000..=100_000_000),
        max_flagged: section.count("max_flagged", 100..=1_000_000),
        repeated_query: section.table("repeated_query", |section| RepeatedQuery {
            enabled: section.flag("enabled"),
            per_minute: section.count("per_minute", 1..=250) as u8,
        }),
        sequential_ids: section.table("sequential_ids", |section| SequentialIds {
            enabled: section.flag("enabled"),
            run: section.count("run", 5..=250) as u8,
            within: section.duration("within", PAUSE),
            max_stride: section.count("max_stride", 1..=120) as u8,
        }),
        penalty: section.table("penalty", read_penalties),
    }
}

fn read_penalties(section: &Section<'_>) -> Penalties {
    let penalties = Penalties {
        first: section.duration("first", PENALTY),
        factor: section.count("factor", 1..=100) as u32,
        longest: section.duration("longest", PENALTY),
        forget_after: section.duration("forget_after", MEMORY),
    };
    if penalties.longest < penalties.first {
        let message = "is shorter than the first penalty";
        let advice = "write the length of first or more, or shorten first";
        section.problem("longest", message, Some(advice.to_owned()));
    }
    penalties
}
