//! Pardons: what a client did up to a moment is forgiven, on every instance.
//!
//! A pardon is told apart from what it forgives by time: an offence that is not later counts as forgiven,
//! wherever it is heard of and however often. So pardons outlive what they forgive. They are given by
//! hand, and few.

use super::offender::Nanos;
use super::part::Forgiven;
use super::{Detector, Flagged, client_half};
use crate::admission::{Admission, Who};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// So much later than a pardon, microseconds, an offence may seem to be by another instance's clock.
const SKEW: i64 = 2_000_000;
/// How long a pardon is handed on, microseconds: the longest penalty and the longest memory any policy may
/// have are 395 days. The same for every instance, or one would throw away what another puts back.
const HANDED_ON: i64 = 400 * 86_400 * 1_000_000;
/// A day longer it is kept, so that nobody hands on what others with a faster clock have forgotten.
const KEPT: i64 = HANDED_ON + 86_400 * 1_000_000;

/// Everything a client did until then is forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pardon {
    /// Whose.
    pub client: Who,
    /// Until when, microseconds since 1970.
    pub pardoned_micros: i64,
}

impl Pardon {
    /// This row's last offence is forgiven by it. In doubt it is.
    pub fn forgives(&self, row: &Flagged) -> bool {
        row.client == self.client && row.last_offence_micros <= self.until()
    }

    /// Nobody need be told any more; `unix_micros`: now.
    pub fn is_stale(&self, unix_micros: i64) -> bool {
        unix_micros.saturating_sub(self.pardoned_micros) > HANDED_ON
    }

    /// Nothing it forgives can be remembered any more; `unix_micros`: now.
    pub fn is_forgotten(&self, unix_micros: i64) -> bool {
        unix_micros.saturating_sub(self.pardoned_micros) > KEPT
    }

    fn until(&self) -> i64 {
        self.pardoned_micros.saturating_add(SKEW)
    }
}

/// The last pardon of each client.
#[derive(Debug, Default)]
pub(super) struct Pardons(Mutex<HashMap<Who, Pardon>>);

impl Pardons {
    /// A pardon is about this row.
    pub fn forgive(&self, row: &Flagged) -> bool {
        self.lock().get(&row.client).is_some_and(|pardon| pardon.forgives(row))
    }

    /// `false`: this one, or a later one, is known.
    fn take(&self, pardon: Pardon) -> bool {
        match self.lock().entry(pardon.client) {
            Entry::Occupied(known) if known.get().pardoned_micros >= pardon.pardoned_micros => {
                false
            }
            Entry::Occupied(mut known) => {
                known.insert(pardon);
                true
            }
            Entry::Vacant(new) => {
                new.insert(pardon);
                true
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Pardon>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Detector {
    /// Takes pardons, given here or elsewhere, and forgives what they are about. `unix_micros` is the wall
    /// time at `now`. How many were news.
    pub fn forgive(&self, pardons: &[Pardon], now: u64, unix_micros: i64) -> usize {
        let now = Nanos::try_from(now).unwrap_or(Nanos::MAX);
        let news = pardons
            .iter()
            .filter(|pardon| !pardon.is_forgotten(unix_micros) && self.pardons.take(**pardon));
        let forgiven = news.map(|pardon| {
            let who = pardon.client;
            let hash = self.hasher.hash_one(who);
            let client = client_half(hash);
            let new = Forgiven { who, client, until: pardon.until(), now, unix_micros };
            self.part(hash, |part| part.forgive(&new));
        });
        forgiven.count()
    }

    /// The pardons that are remembered; `unix_micros`: now.
    pub fn pardons(&self, unix_micros: i64) -> Vec<Pardon> {
        let mut known = self.pardons.lock();
        known.retain(|_, pardon| !pardon.is_forgotten(unix_micros));
        known.values().copied().collect()
    }
}

impl Admission {
    /// Takes pardons, given here or elsewhere: offences that are not later are forgiven, now and whenever
    /// they are heard of. How many were news.
    pub fn forgive(&self, pardons: &[Pardon], now: Instant, unix_micros: i64) -> usize {
        self.abuse.forgive(pardons, self.nanos(now), unix_micros)
    }

    /// The pardons that are remembered, one a client; `unix_micros`: now.
    pub fn pardons(&self, unix_micros: i64) -> Vec<Pardon> {
        self.abuse.pardons(unix_micros)
    }
}
