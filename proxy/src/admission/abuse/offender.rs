//! A client that was found out: what for, what it costs, until when.

use super::evidence::imported;
use super::{Asked, Who};
use penstock_config::policy::{Abuse, Penalties};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Nanoseconds since the detector began; what came from before it is negative.
pub(super) type Nanos = i64;

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;
/// In nanoseconds.
const MICRO: i128 = 1_000;

/// What abuse looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// The same query too often.
    RepeatedQuery,
    /// Product ids in sequence.
    SequentialIds,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RepeatedQuery, Self::SequentialIds];

    /// As in `limits.toml`, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::RepeatedQuery => "repeated_query",
            Self::SequentialIds => "sequential_ids",
        }
    }

    /// It is looked for, and who was found is refused.
    pub(super) fn enabled(self, policy: &Abuse) -> bool {
        match self {
            Self::RepeatedQuery => policy.repeated_query.enabled,
            Self::SequentialIds => policy.sequential_ids.enabled,
        }
    }
}

/// What a penalty refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Scope {
    /// One query.
    Query {
        /// 48 bits of its SHA-256: the same on every instance, and exact as a JSON number.
        digest: u64,
    },
    /// Whatever names a product.
    Products,
    /// Everything.
    Client,
}

impl Scope {
    /// Of this (normalised) query.
    pub(super) fn of_query(query: &str) -> Self {
        let hash = Sha256::digest(query.as_bytes());
        let digest = hash.iter().take(6).fold(0, |digest, &byte| digest << 8 | u64::from(byte));
        Self::Query { digest }
    }

    fn covers(self, asked: Asked<'_>) -> bool {
        match (self, asked) {
            (Self::Client, _) | (Self::Products, Asked::Product(_)) => true,
            (Self::Query { .. }, Asked::Query(query)) => self == Self::of_query(query),
            _ => false,
        }
    }
}

/// A client on the list, as operators see it and as instances hand it to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flagged {
    /// Who.
    pub client: Who,
    /// What for, last.
    pub pattern: Pattern,
    /// What was seen, one line.
    pub evidence: String,
    /// What the last penalty refuses.
    pub scope: Scope,
    /// So often, since it was last forgotten.
    pub offences: u32,
    /// Requests refused; in the shadow, that would have been.
    pub refused: u64,
    /// First offence, seconds since 1970.
    pub first_seen: i64,
    /// Last offence or refusal, seconds since 1970.
    pub last_seen: i64,
    /// Seconds since 1970, rounded up; in the past: it passes again.
    pub penalty_until: i64,
    /// Last offence, microseconds since 1970.
    pub last_offence_micros: i64,
    /// The exact end of the penalty, microseconds since 1970.
    pub penalty_until_micros: i64,
    /// Penalties were not enforced when it last asked.
    pub shadow: bool,
}

impl Flagged {
    /// What it is compared by.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            offences: self.offences.max(1),
            last_offence: self.last_offence_micros,
            until: self.penalty_until_micros,
        }
    }
}

/// What tells a row from an older one of the same client. Merging rows only makes each of it greater, so
/// instances that hand rows around come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// So often.
    pub offences: u32,
    /// Last offence, microseconds since 1970.
    pub last_offence: i64,
    /// End of the penalty, microseconds since 1970.
    pub until: i64,
}

impl Stamp {
    /// Nothing in `other` is news to whoever knows this.
    pub fn covers(self, other: Self) -> bool {
        self.offences >= other.offences
            && self.last_offence >= other.last_offence
            && self.until >= other.until
    }

    /// An offence happened that `known` does not count.
    pub(super) fn tells_of_an_offence(self, known: Self) -> bool {
        self.offences > known.offences || self.last_offence > known.last_offence
    }
}

/// What others are told: wall times, microseconds since 1970. Reckoned once for an offence and handed on
/// as it is, because the distance between two clocks is never read the same twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub last_offence: i64,
    pub until: i64,
}

#[derive(Debug)]
pub(super) struct Offender {
    pub pattern: Pattern,
    pub scope: Scope,
    pub evidence: Box<str>,
    pub offences: u32,
    pub refused: u64,
    pub first_seen: Nanos,
    pub last_offence: Nanos,
    pub last_seen: Nanos,
    /// End of the penalty here: what was told, but no later than this policy allows.
    pub until: Nanos,
    /// `None`: nobody was told of its last offence yet.
    pub told: Option<Told>,
    pub shadow: bool,
}

/// How long the penalty of this offence (from 1) lasts.
pub(super) fn penalty_of(offence: u32, penalties: &Penalties) -> Duration {
    let times = penalties.factor.saturating_pow(offence.saturating_sub(1));
    penalties.first.saturating_mul(times).min(penalties.longest)
}

impl Offender {
    /// It is refused this now.
    pub fn is_refused(&self, policy: &Abuse, asked: Asked<'_>, now: Nanos) -> bool {
        now < self.until && self.pattern.enabled(policy) && self.scope.covers(asked)
    }

    /// Its offences do not count any more.
    pub fn is_forgotten(&self, policy: &Abuse, now: Nanos) -> bool {
        now >= self.until.saturating_add(nanos(policy.penalty.forget_after))
    }

    /// What others are told of it, from the first time on; `unix_micros` is the wall time at `now`.
    pub fn told(&mut self, now: Nanos, unix_micros: i64) -> Told {
        let unix = |at: Nanos| fit((unix_nanos(at, now, unix_micros)).div_euclid(MICRO));
        *self.told.get_or_insert_with(|| Told {
            last_offence: unix(self.last_offence),
            until: unix(self.until),
        })
    }

    /// What its row is compared by.
    pub fn stamp(&mut self, now: Nanos, unix_micros: i64) -> Stamp {
        let Told { last_offence, until } = self.told(now, unix_micros);
        Stamp { offences: self.offences, last_offence, until }
    }

    /// As a row of the list; `unix_micros` is the wall time at `now`.
    pub fn row(&mut self, client: Who, now: Nanos, unix_micros: i64) -> Flagged {
        let told = self.told(now, unix_micros);
        // A millisecond more: what came in whole seconds stays in its second, however clocks tremble.
        let whole =
            |at: Nanos| fit((unix_nanos(at, now, unix_micros) + 1_000 * MICRO).div_euclid(SECOND));
        Flagged {
            client,
            pattern: self.pattern,
            evidence: self.evidence.to_string(),
            scope: self.scope,
            offences: self.offences,
            refused: self.refused,
            first_seen: whole(self.first_seen),
            last_seen: whole(self.last_seen),
            penalty_until: told.until.saturating_add(999_999).div_euclid(1_000_000),
            last_offence_micros: told.last_offence,
            penalty_until_micros: told.until,
            shadow: self.shadow,
        }
    }

    /// From a row. Its penalty ends here no later than this policy allows for its last offence, whoever
    /// wrote it; it is handed on as it came.
    pub fn from_row(row: &Flagged, policy: &Abuse, now: Nanos, unix_micros: i64) -> Self {
        let at = |unix: i64| {
            let nanos = (i128::from(unix) - i128::from(unix_micros)) * MICRO;
            fit(nanos + i128::from(now))
        };
        let seconds = |unix: i64| at(unix.saturating_mul(1_000_000)).min(now);
        let last_offence = at(row.last_offence_micros).min(now);
        let latest = last_offence.saturating_add(nanos(policy.penalty.longest));
        let Stamp { offences, last_offence: told, until } = row.stamp();
        Self {
            pattern: row.pattern,
            scope: row.scope,
            evidence: imported(&row.evidence),
            offences,
            refused: row.refused,
            first_seen: seconds(row.first_seen),
            last_offence,
            last_seen: seconds(row.last_seen),
            until: at(until).min(latest),
            told: Some(Told { last_offence: told, until }),
            shadow: row.shadow,
        }
    }

    /// Takes over what another instance knows of the same client: the more offences, the later one and
    /// the later end. Rows that are equal, or older in everything, change nothing.
    pub fn merge(&mut self, mut other: Self, now: Nanos, unix_micros: i64) {
        let (mine, theirs) = (self.stamp(now, unix_micros), other.stamp(now, unix_micros));
        if mine.covers(theirs) {
            return;
        }
        let told = Told {
            last_offence: mine.last_offence.max(theirs.last_offence),
            until: mine.until.max(theirs.until),
        };
        let until = if theirs.until > mine.until { other.until } else { self.until };
        let offences = self.offences.max(other.offences);
        let refused = self.refused.max(other.refused);
        let first_seen = self.first_seen.min(other.first_seen);
        let last_offence = self.last_offence.max(other.last_offence);
        let last_seen = self.last_seen.max(other.last_seen);
        let order = |stamp: Stamp| (stamp.last_offence, stamp.offences, stamp.until);
        if order(theirs) > order(mine) {
            *self = other;
        }
        // Whoever knows of more offences than the last one's finder refuses everything for it.
        let scope = if offences > 1 { Scope::Client } else { self.scope };
        (self.offences, self.refused, self.scope) = (offences, refused, scope);
        (self.first_seen, self.last_offence, self.last_seen) =
            (first_seen, last_offence, last_seen);
        (self.until, self.told) = (until, Some(told));
    }
}

/// Wall time, nanoseconds since 1970.
fn unix_nanos(at: Nanos, now: Nanos, unix_micros: i64) -> i128 {
    i128::from(unix_micros) * MICRO + i128::from(at) - i128::from(now)
}

/// The nearest there is.
fn fit(number: i128) -> i64 {
    number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests;
