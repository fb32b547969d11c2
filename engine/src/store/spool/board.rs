//! What this process knows of the spool without asking the disk.
//!
//! Whether anything waits for a user is asked with every request, and almost never anything does. So every user
//! falls into one of a fixed number of slots, and a slot has the number of the latest row of any user in it. Rows
//! leave in order: when that row has left, so has all before it, and nothing has to be taken out of a slot. A slot
//! that says "perhaps" costs a query.

use super::totals::Totals;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Half a MiB.
const SLOTS: usize = 1 << 16;

/// Shared by the threads of one handle.
#[derive(Debug)]
pub(super) struct Board {
    slots: Box<[AtomicI64]>,
    /// The number of the oldest row that waits.
    floor: AtomicI64,
    /// Rows up to this number are in their slots.
    seen: AtomicI64,
    totals: Mutex<Totals>,
    trouble: Mutex<Option<String>>,
    /// The latest append was refused for want of room.
    pub full: AtomicBool,
    /// This process ships.
    pub shipping: AtomicBool,
    /// There is something new to ship.
    pub news: Notify,
}

impl Board {
    /// Everything that waits at the start may be anybody's.
    pub fn new(totals: Totals) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicI64::new(totals.last)).collect(),
            floor: AtomicI64::new(totals.first),
            seen: AtomicI64::new(totals.last),
            totals: Mutex::new(totals),
            trouble: Mutex::default(),
            full: AtomicBool::new(false),
            shipping: AtomicBool::new(false),
            news: Notify::new(),
        }
    }

    fn slot(&self, user_id: &str) -> &AtomicI64 {
        let mut hash = DefaultHasher::new();
        user_id.hash(&mut hash);
        &self.slots[hash.finish() as usize % SLOTS]
    }

    /// `false`: nothing waits for this user.
    pub fn perhaps(&self, user_id: &str) -> bool {
        self.slot(user_id).load(Ordering::Acquire) >= self.floor.load(Ordering::Acquire)
    }

    /// A row of this user waits.
    pub fn note(&self, user_id: &str, seq: i64) {
        self.slot(user_id).fetch_max(seq, Ordering::AcqRel);
    }

    /// A row up to `seq` may be anybody's.
    pub fn note_all(&self, seq: i64) {
        for slot in &self.slots {
            slot.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// Rows up to this number were noted.
    pub fn seen(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Rows after `from` and up to `to` were noted. Where others wrote in between, they are looked for.
    pub fn saw(&self, from: i64, to: i64) {
        let _ = self.seen.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Takes up counts unless newer ones are known.
    pub fn publish(&self, totals: Totals) {
        let mut known = self.totals();
        if totals.change <= known.change {
            return;
        }
        if totals.last > known.last {
            self.news.notify_one();
        }
        // A process that salvages starts a new file only where no other has the old one: numbers never fall.
        self.floor.fetch_max(totals.first, Ordering::AcqRel);
        *known = totals;
    }

    pub fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong last; `None` when it went well again.
    pub fn trouble(&self, what: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    pub fn last_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
