//! What the caches are told when something changed: what of all that is remembered does not hold any more.
//!
//! A product that changed is in no remembered answer from then on: answers name the products in them. Into which
//! answers a product may come that is new, or has other words, nothing remembered tells. So all answers give way,
//! at once where nothing of the kind happened lately, and else together: where products come in all the time, every
//! few seconds, so that what is asked often is remembered all the same. A price brings a product into answers that
//! are limited by prices only, and they say so ([`PRICES`]).

use super::Caches;
use crate::cache::{CacheKind, Change, PRICES, Reason};
use crate::catalog::Difference;
use crate::store::{Bulk, Foreign, StoreError};
use penstock_config::clock::SharedClock;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Products that changed at once and are named; more, and everything may have changed.
pub(super) const MOST_CHANGES: usize = 5_000;
/// Users whose events are new at once and who are named; more, and it may be anybody.
const MOST_USERS: usize = 5_000;
/// Between two times that all answers give way to products that may belong into them.
const GIVE_WAY: Duration = Duration::from_secs(5);

/// What lists products.
const ANSWERS: [CacheKind; 3] = [CacheKind::Results, CacheKind::Candidates, CacheKind::Popular];

/// See the module.
pub(super) struct News {
    caches: Option<Arc<Caches>>,
    clock: SharedClock,
    /// When all answers gave way last.
    gave_way: Option<Instant>,
    /// A product may belong into answers that were not told of it yet.
    widened: bool,
    /// Events of others, as last counted.
    foreign_events: Option<Foreign>,
}

impl News {
    pub fn new(caches: Option<Arc<Caches>>, clock: SharedClock) -> Self {
        Self { caches, clock, gave_way: None, widened: false, foreign_events: None }
    }

    /// What changed before this process began to look is not known, so nothing holds that was made from an older
    /// catalogue.
    pub fn start(&self, revision: u64) {
        self.note(Change { revision, ..Change::all(None, Reason::Start) });
    }

    /// Products changed; the catalogue of this revision has it. Told before that catalogue is published: from then
    /// on nothing is served that was made from the one before. Every instance finds out by itself, so nobody else
    /// is told.
    pub fn products(&mut self, difference: Difference, revision: u64) {
        let Difference { mut changed, widens, prices } = difference;
        if changed.len() > MOST_CHANGES {
            self.note(Change { revision, ..Change::all(None, Reason::ProductUpdate) });
            self.gave_way = Some(self.clock.now());
            self.widened = false;
            return;
        }
        changed.extend(prices.then(|| PRICES.to_owned()));
        if !changed.is_empty() {
            self.note(Change::products(changed, Reason::ProductUpdate, revision));
        }
        self.widened |= widens;
        self.give_way(revision);
    }

    /// All answers give way, if they have to and did not lately. Called with every look.
    pub fn give_way(&mut self, revision: u64) {
        let now = self.clock.now();
        let lately = |at: Instant| now.saturating_duration_since(at) < GIVE_WAY;
        if !self.widened || self.gave_way.is_some_and(lately) {
            return;
        }
        self.gave_way = Some(now);
        self.widened = false;
        for layer in ANSWERS {
            self.note(Change { revision, ..Change::all(Some(layer), Reason::ProductUpdate) });
        }
    }

    /// Popularity was computed anew.
    pub fn popularity(&self) {
        if let Some(caches) = &self.caches {
            // Told, and not only noted: what is in Redis is as old.
            caches.tell(Change::all(Some(CacheKind::Popular), Reason::Popularity));
        }
    }

    /// Another index version serves.
    pub fn index(&self) {
        if let Some(caches) = &self.caches {
            // Keys have another version now; what lies under the old ones is only in the way.
            caches.candidates.clear();
        }
    }

    /// Histories are remembered until their users act here. Others store events, too: an import, another process
    /// on the same folder, the one that is being replaced by an upgrade.
    pub fn foreign_events(&mut self, store: &dyn Bulk) -> Result<(), StoreError> {
        let Some(caches) = &self.caches else {
            return Ok(());
        };
        let foreign = store.foreign_events()?;
        let before = self.foreign_events.replace(foreign).unwrap_or(foreign);
        if before.count == foreign.count {
            return Ok(());
        }
        if let Some(users) = store.users_after(before.latest, MOST_USERS)? {
            caches.tell(Change { reason: Reason::Import, ..Change::users(users) });
        } else {
            for layer in [CacheKind::Features, CacheKind::Results, CacheKind::Candidates] {
                // Told, and not only noted: what is in Redis is as old.
                caches.tell(Change::all(Some(layer), Reason::Import));
            }
        }
        Ok(())
    }

    fn note(&self, change: Change) {
        if let Some(caches) = &self.caches {
            caches.log.note(&change);
        }
    }
}
