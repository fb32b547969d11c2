//! The memory of kept answers: bounded in bytes, never above the bound.
//!
//! Every byte is asked for before it is taken, under one lock, and given back when whoever holds it
//! lets go: an answer that is being fetched counts while it grows, and one that was driven out counts
//! until the slowest client that is being sent it has it all. Where there is no room, what was used
//! longest ago among a few taken at random goes; what is being sent stays, since driving it out would
//! give no room.
//!
//! An answer that was asked for before its page changed must not be kept after: every change has a
//! number, every fill the number of the latest change before it began, and one that a later change is
//! about is dropped when it ends.

use bytes::Bytes;
use indexmap::IndexMap;
use pingora::cache::key::HashBinary;
use pingora::http::ResponseHeader;
use rand::Rng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::SystemTime;

/// What an entry costs beside its texts and body: its place in the map, its counters.
const OVERHEAD: u64 = 512;
/// What a header line costs beside its texts.
const LINE_OVERHEAD: u64 = 64;
/// Among so many taken at random, the one used longest ago goes.
const SAMPLE: usize = 8;
/// Changes that are remembered one by one. When there are more, every fill that is under way is
/// dropped instead.
const MOST_CHANGES: usize = 4_096;

/// Bytes that were asked for; given back on drop.
#[derive(Debug)]
pub struct Held {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Where a page is, for those who purge.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its key.
    pub page: HashBinary,
    /// Its host, in lower case.
    pub host: Arc<str>,
    /// Its path, folded.
    pub path: Arc<str>,
    /// The latest change before it was asked for.
    pub asked_at: u64,
}

/// What is known of an answer beside its header and body.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Good until then.
    pub fresh_until: SystemTime,
    /// When it, or the family of variants it belongs to, came.
    pub created: SystemTime,
    /// Its age counts from then.
    pub epoch: SystemTime,
    /// Seconds it is served after its life while it is fetched anew.
    pub stale_while_revalidate: u32,
    /// … while the application fails.
    pub stale_if_error: u32,
    /// It was over when it came: every request has the application asked about it.
    pub never_fresh: bool,
    /// Which variant it is.
    pub variance: Option<HashBinary>,
}

/// An answer that is kept.
#[derive(Debug)]
pub struct Kept {
    /// Where it is.
    pub place: Place,
    /// Its times.
    pub times: Times,
    /// What is sent of it.
    pub header: ResponseHeader,
    /// Its body; holds the bytes it takes.
    pub body: Bytes,
    _held: Held,
    last_used: AtomicU64,
}

impl Kept {
    /// An answer; `held` is what it costs but for its body.
    pub fn new(
        place: Place,
        times: Times,
        header: ResponseHeader,
        body: Bytes,
        held: Held,
    ) -> Self {
        Self { place, times, header, body, _held: held, last_used: AtomicU64::new(0) }
    }
}

/// What an answer costs but for its body.
pub fn cost(place: &Place, header: &ResponseHeader) -> u64 {
    let lines = header.headers.iter();
    let lines: u64 =
        lines.map(|(name, value)| (name.as_str().len() + value.len()) as u64 + LINE_OVERHEAD).sum();
    OVERHEAD + lines + (place.host.len() + place.path.len()) as u64
}

#[derive(Debug, Default)]
struct Inner {
    kept: IndexMap<HashBinary, Arc<Kept>>,
    /// The latest change of pages that changed lately.
    changes: HashMap<HashBinary, u64>,
    /// Fills that began before this change are dropped, whatever they are about.
    all_changed: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Store {
    inner: RwLock<Inner>,
    used: Arc<AtomicU64>,
    bound: AtomicU64,
    clock: AtomicU64,
    change: AtomicU64,
}

impl Store {
    /// Nothing in it, and room for nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the bound. What is above it goes, as far as it is not being sent.
    pub fn bound(&self, bytes: u64) {
        if self.bound.load(Ordering::Acquire) == bytes {
            return;
        }
        let mut inner = self.write();
        self.bound.store(bytes, Ordering::Release);
        if bytes == 0 {
            self.forget(&mut inner, |_| true);
            return;
        }
        while self.bytes() > bytes && inner.drive_one_out() {}
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Answers that are kept.
    pub fn entries(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).kept.len()
    }

    /// Asks for bytes; others go for them. `None`: there is no room.
    pub fn hold(&self, bytes: u64) -> Option<Held> {
        let mut inner = self.write();
        let bound = self.bound.load(Ordering::Acquire);
        if bytes > bound {
            return None;
        }
        // Only here does it grow, and here under the lock.
        while self.bytes() + bytes > bound {
            if !inner.drive_one_out() {
                return None;
            }
        }
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Some(Held { used: self.used.clone(), bytes })
    }

    /// The answer in a slot.
    pub fn get(&self, slot: &HashBinary) -> Option<Arc<Kept>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let kept = inner.kept.get(slot)?;
        kept.last_used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(kept.clone())
    }

    /// There is an answer in this slot.
    pub fn has(&self, slot: &HashBinary) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).kept.contains_key(slot)
    }

    /// Keeps an answer, unless its page changed since it was asked for.
    pub fn keep(&self, slot: HashBinary, kept: Kept) -> bool {
        let mut inner = self.write();
        let changed = inner.changes.get(&kept.place.page).copied().unwrap_or(0);
        if kept.place.asked_at < changed.max(inner.all_changed) {
            return false;
        }
        kept.last_used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        inner.kept.insert(slot, Arc::new(kept));
        true
    }

    /// Puts an answer that was found good again in the place of the same one; `false`: it went
    /// meanwhile, or another is there.
    pub fn renew(&self, slot: &HashBinary, old: &Arc<Kept>, renewed: Kept) -> bool {
        let mut inner = self.write();
        match inner.kept.get_mut(slot) {
            Some(kept) if Arc::ptr_eq(kept, old) => {
                renewed.last_used.store(kept.last_used.load(Ordering::Relaxed), Ordering::Relaxed);
                *kept = Arc::new(renewed);
                true
            }
            _ => false,
        }
    }

    /// The number of the latest change.
    pub fn latest_change(&self) -> u64 {
        self.change.load(Ordering::Acquire)
    }

    /// A page changed: what is kept of it goes, and what is being fetched of it is not kept.
    /// (Its variants stay where they are, but without the first of them nobody finds them, and when
    /// there is a first again they are older than it, which is how Pingora knows.)
    pub fn changed(&self, page: HashBinary) -> bool {
        let mut inner = self.write();
        let number = self.change.fetch_add(1, Ordering::AcqRel) + 1;
        if inner.changes.len() >= MOST_CHANGES {
            inner.changes.clear();
            inner.all_changed = number;
        }
        inner.changes.insert(page, number);
        inner.kept.swap_remove(&page).is_some()
    }

    /// Forgets what `which` says, and whatever is being fetched; how many there were.
    pub fn purge(&self, which: impl Fn(&Place) -> bool) -> usize {
        let mut inner = self.write();
        self.forget(&mut inner, which)
    }

    fn forget(&self, inner: &mut Inner, which: impl Fn(&Place) -> bool) -> usize {
        inner.all_changed = self.change.fetch_add(1, Ordering::AcqRel) + 1;
        let before = inner.kept.len();
        inner.kept.retain(|_, kept| !which(&kept.place));
        before - inner.kept.len()
    }

    /// Takes a slot's answer away.
    pub fn remove(&self, slot: &HashBinary) -> bool {
        self.write().kept.swap_remove(slot).is_some()
    }
}

impl Inner {
    /// `false`: there is none that is not being sent.
    fn drive_one_out(&mut self) -> bool {
        let count = self.kept.len();
        if count == 0 {
            return false;
        }
        let mut random = rand::rng();
        let idle = |at: usize| {
            let (_, kept) = self.kept.get_index(at)?;
            let sent = Arc::strong_count(kept) > 1;
            (!sent).then(|| (kept.last_used.load(Ordering::Relaxed), at))
        };
        let sampled = (0..SAMPLE).filter_map(|_| idle(random.random_range(0..count))).min();
        let Some((_, at)) = sampled.or_else(|| (0..count).find_map(idle)) else {
            return false;
        };
        self.kept.swap_remove_index(at);
        true
    }
}

#[cfg(test)]
mod tests;
