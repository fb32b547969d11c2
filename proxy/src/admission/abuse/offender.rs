//! A client that was found out: what for, what it costs, until when.

use super::evidence::imported;
use super::{Asked, Who};
use penstock_config::policy::{Abuse, Penalties};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Nanoseconds since the detector began; what came from before it is negative.
pub(super) type Nanos = i64;

const SECOND: i128 = 1_000_000_000;

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
    /// Seconds since 1970; in the past: it passes again.
    pub penalty_until: i64,
    /// Penalties were not enforced when it last asked.
    pub shadow: bool,
}

#[derive(Debug)]
pub(super) struct Offender {
    pub pattern: Pattern,
    pub scope: Scope,
    pub evidence: Box<str>,
    pub offences: u32,
    pub refused: u64,
    pub first_seen: Nanos,
    pub last_seen: Nanos,
    pub until: Nanos,
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

    /// As a row of the list; `unix_micros` is the wall time at `now`.
    pub fn row(&self, client: Who, now: Nanos, unix_micros: i64) -> Flagged {
        let unix = |at: Nanos| i128::from(unix_micros) * 1_000 + i128::from(at) - i128::from(now);
        let whole = |nanos: i128| i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default();
        Flagged {
            client,
            pattern: self.pattern,
            evidence: self.evidence.to_string(),
            scope: self.scope,
            offences: self.offences,
            refused: self.refused,
            first_seen: whole(unix(self.first_seen)),
            last_seen: whole(unix(self.last_seen)),
            // Rounded up: a penalty that is handed on is not cut short.
            penalty_until: whole(unix(self.until) + SECOND - 1),
            shadow: self.shadow,
        }
    }

    /// From a row. No penalty of it is longer than the policy allows, whoever wrote it.
    pub fn from_row(row: &Flagged, policy: &Abuse, now: Nanos, unix_micros: i64) -> Self {
        let at = |unix: i64| {
            let nanos = i128::from(unix) * SECOND - i128::from(unix_micros) * 1_000;
            let clamped = (nanos + i128::from(now)).clamp(i64::MIN.into(), i64::MAX.into());
            Nanos::try_from(clamped).unwrap_or(now)
        };
        Self {
            pattern: row.pattern,
            scope: row.scope,
            evidence: imported(&row.evidence),
            offences: row.offences.max(1),
            refused: row.refused,
            first_seen: at(row.first_seen).min(now),
            last_seen: at(row.last_seen).min(now),
            until: at(row.penalty_until).min(now.saturating_add(nanos(policy.penalty.longest))),
            shadow: row.shadow,
        }
    }

    /// Takes over what another instance knows of the same client. Taking it twice changes nothing.
    pub fn merge(&mut self, other: Self) {
        let (offences, refused) = (self.offences, self.refused);
        let first_seen = self.first_seen.min(other.first_seen);
        let last_seen = self.last_seen.max(other.last_seen);
        if other.until > self.until {
            *self = other;
        }
        self.offences = self.offences.max(offences);
        self.refused = self.refused.max(refused);
        (self.first_seen, self.last_seen) = (first_seen, last_seen);
    }
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::policy::Policy;

    #[test]
    fn penalties_grow_to_the_longest() {
        let mut penalties = Policy::default().limits.abuse.penalty;
        let check = |penalties: &Penalties, expected: &[u64]| {
            let seconds: Vec<_> =
                (1..).map(|n| penalty_of(n, penalties).as_secs()).take(expected.len()).collect();
            assert_eq!(seconds, expected);
        };
        check(&penalties, &[60, 240, 960, 3_600, 3_600]);
        penalties.factor = 1;
        check(&penalties, &[60, 60, 60]);
        penalties.factor = 100;
        assert_eq!(penalty_of(u32::MAX, &penalties), penalties.longest);
    }

    #[test]
    fn scopes_cover_what_was_abused() {
        let check = |scope: Scope, asked: Asked<'_>, expected: bool| {
            assert_eq!(scope.covers(asked), expected, "{scope:?} {asked:?}");
        };
        for asked in [Asked::Query("lamp"), Asked::Product("7"), Asked::Other] {
            check(Scope::Client, asked, true);
            check(Scope::Products, asked, matches!(asked, Asked::Product(_)));
            check(Scope::of_query("lamp"), asked, asked == Asked::Query("lamp"));
            check(Scope::of_query("lamps"), asked, false);
        }
    }
}
