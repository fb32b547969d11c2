//! Abuse: the same query over and over, and product ids in sequence.
//!
//! Limits bound how much a client takes; abuse is about what it takes. [`Detector::look`] sees every
//! request once and says whether a penalty refuses it:
//!
//! - **Repeated query**: a [window] per client and normalised query that never holds what is older than
//!   a minute, so whoever keeps to the threshold is never found out.
//! - **Sequential ids**: the client's [walk] through the catalogue.
//!
//! Twenty shoppers behind one address are one client here, unless they have keys. They ask different
//! things, and of what they ask the windows are apart; in their ids there is no common distance. Only
//! the one query that is asked too often is refused for it.
//!
//! **Penalties.** The first costs only what was abused; further ones cost everything, and each lasts
//! longer. When one begins, the counts that led to it are forgotten, and what is refused is not counted.
//! So a penalty ends when it said it would, and asking on does not prolong it. A client that stays
//! quiet long enough is forgotten.
//!
//! **Memory.** Everything about a client lies in one of 64 parts, chosen by a keyed hash nobody outside
//! can know: one lock a request, and a client that fills tables with nonsense makes nobody forgotten
//! outside its part. Tables are bounded; what is worth least goes first.
//!
//! **Fleets.** Instances hand each other rows ([`Flagged`]) and [pardons](Pardon). Both carry wall times
//! that are reckoned once and handed on as they are; an offence that is not later than a pardon is forgiven.
//!
//! Times are nanoseconds since the detector began, given by the caller.

mod evidence;
mod numbered;
mod offender;
mod pardon;
mod part;
mod walk;
mod window;

pub use offender::{Flagged, Pattern, Scope, Stamp};
pub use pardon::Pardon;

use super::Who;
use numbered::Numbered;
use offender::{Nanos, Offender};
use pardon::Pardons;
use part::{Newcomer, Part, QueryKey, Sign};
use penstock_config::policy::Abuse;
use serde::{Serialize, Serializer};
use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Parts with a lock each, so that threads seldom meet.
const PARTS: usize = 64;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'r> {
    /// Results for a query, as [`penstock_engine::query::normalise`] spells it.
    Query(&'r str),
    /// A product, or what is similar to it.
    Product(&'r str),
    /// Anything else: nothing to detect, but refused to a client that is refused everything.
    Other,
}

/// A request is refused; in the shadow, it would have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Penalty {
    /// What for.
    pub pattern: Pattern,
    /// What is refused.
    pub scope: Scope,
    /// After this, such a request passes.
    #[serde(rename = "retry_after_seconds", serialize_with = "seconds")]
    pub retry_after: Duration,
    /// Which offence it is for, from 1.
    pub offences: u32,
    /// The request is to pass.
    pub shadow: bool,
    /// The evidence, if it was this request that the client was found out by.
    pub found: Option<Box<str>>,
}

impl Penalty {
    /// Why, in words for the client; a clause without the time.
    pub fn reason(&self) -> &'static str {
        match (self.scope, self.pattern) {
            (Scope::Query { .. }, _) => "you asked this query too often",
            (Scope::Products, _) => "you walked through the products by their ids",
            (Scope::Client, Pattern::RepeatedQuery) => "you asked the same query too often again",
            (Scope::Client, Pattern::SequentialIds) => {
                "you walked through the products by their ids again"
            }
        }
    }
}

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// Queries, each of one client.
    pub queries: usize,
    /// Clients whose way through the products is.
    pub clients: usize,
    /// Clients on the list.
    pub flagged: usize,
}

/// Sees every request, finds out who abuses, and refuses them for a while.
#[derive(Debug)]
pub struct Detector {
    parts: Vec<Mutex<Part>>,
    hasher: RandomState,
    /// Offenders in all parts: while there is none, nobody is looked up.
    flagged: AtomicUsize,
    pardons: Pardons,
}

impl Default for Detector {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self {
            parts,
            hasher: RandomState::new(),
            flagged: AtomicUsize::new(0),
            pardons: Pardons::default(),
        }
    }
}

impl Detector {
    /// Looks at a request of `who` at `now`, nanoseconds since the detector began. `None`: no penalty
    /// refuses it.
    pub fn look(&self, policy: &Abuse, who: Who, asked: Asked<'_>, now: u64) -> Option<Penalty> {
        if !policy.enabled {
            return None;
        }
        let anybody = self.flagged.load(Ordering::Relaxed) > 0;
        if !anybody && asked == Asked::Other {
            return None;
        }
        let hash = self.hasher.hash_one(who);
        let sign = self.sign(policy, hash, asked);
        if !anybody && sign.is_none() {
            return None;
        }
        let at = Nanos::try_from(now).unwrap_or(Nanos::MAX);
        self.part(hash, |part| {
            let refused = if anybody { part.refuse(policy, who, asked, at) } else { None };
            refused.or_else(|| {
                let proof = part.count(policy, who, sign?, now, share(policy.max_clients))?;
                let most = share(policy.max_flagged);
                Some(part.penalise(policy, who, client_half(hash), proof, at, most))
            })
        })
    }

    /// Takes every penalty, offence and count off a client. `false`: it was not on the list.
    pub fn pardon(&self, who: Who) -> bool {
        let hash = self.hasher.hash_one(who);
        self.part(hash, |part| {
            part.forget_counts(who, client_half(hash));
            part.offenders.swap_remove(&who).is_some()
        })
    }

    /// The list, latest first, without those that are to be forgotten, which it forgets. `unix_micros`
    /// is the wall time at `now`.
    pub fn flagged(&self, policy: &Abuse, now: u64, unix_micros: i64) -> Vec<Flagged> {
        let now = Nanos::try_from(now).unwrap_or(Nanos::MAX);
        let mut rows = Vec::new();
        for part in 0..PARTS as u64 {
            self.part(part, |part| {
                part.offenders.retain(|_, offender| !offender.is_forgotten(policy, now));
                for (who, offender) in &mut part.offenders {
                    rows.push(offender.row(*who, now, unix_micros));
                }
            });
        }
        rows.sort_by_key(|row| Reverse((row.last_seen, row.first_seen)));
        rows
    }

    /// Takes clients from another instance's list, or from the one before a restart: how many rows were
    /// news. The others are known, forgiven, or to be forgotten already.
    pub fn import(&self, policy: &Abuse, rows: &[Flagged], now: u64, unix_micros: i64) -> usize {
        let now = Nanos::try_from(now).unwrap_or(Nanos::MAX);
        let mut news = 0;
        for row in rows {
            let offender = Offender::from_row(row, policy, now, unix_micros);
            if offender.is_forgotten(policy, now) {
                continue;
            }
            let hash = self.hasher.hash_one(row.client);
            let client = client_half(hash);
            let new = Newcomer { who: row.client, client, offender, now, unix_micros };
            let most = share(policy.max_flagged);
            // Asked in the part, where a pardon given meanwhile either is seen or comes later.
            let taken =
                self.part(hash, |part| !self.pardons.forgive(row) && part.take(policy, new, most));
            news += usize::from(taken);
        }
        news
    }

    /// How much is remembered.
    pub fn remembered(&self) -> Remembered {
        let mut all = Remembered::default();
        for part in 0..PARTS as u64 {
            let (queries, clients) = self.part(part, |part| part.counted());
            all.queries += queries;
            all.clients += clients;
        }
        Remembered { flagged: self.flagged.load(Ordering::Relaxed), ..all }
    }

    fn sign<'r>(&self, policy: &Abuse, hash: u64, asked: Asked<'r>) -> Option<Sign<'r>> {
        match asked {
            Asked::Query(text) if policy.repeated_query.enabled && !text.is_empty() => {
                let query = self.hasher.hash_one((hash, text)) as u32;
                Some(Sign::Query(QueryKey { client: client_half(hash), query }, text))
            }
            Asked::Product(id) if policy.sequential_ids.enabled => {
                let id = Numbered::of(id)?;
                Some(Sign::Product(id.series(&self.hasher), id))
            }
            _ => None,
        }
    }

    /// Works on the part of a hash, and keeps the number of offenders.
    fn part<R>(&self, hash: u64, work: impl FnOnce(&mut Part) -> R) -> R {
        let part = &self.parts[hash as usize % PARTS];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let before = part.offenders.len();
        let result = work(&mut part);
        let after = part.offenders.len();
        if after != before {
            // Wraps around to a subtraction.
            self.flagged.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        result
    }
}

/// The half of a client's hash that does not choose its part.
fn client_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A part's share of a bound, rounded up.
fn share(most: usize) -> usize {
    most.div_ceil(PARTS)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(crate::respond::whole_seconds(*time))
}

#[cfg(test)]
mod tests;
