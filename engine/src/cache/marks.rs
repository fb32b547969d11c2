//! When each of many things last changed, in bounded memory.

use super::Tier;
use super::ledger::Mark;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks; a power of two.
const PARTS: usize = 16;
/// Things remembered in each: some five megabytes of changes altogether.
const MOST_PER_PART: usize = 8_192;

/// The epoch of a change that the fleet has not numbered yet: later than anything in Redis.
pub(super) const UNNUMBERED: u64 = u64::MAX;

/// When something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    /// Here: the number of the note.
    pub seq: u64,
    /// In the fleet: the number in the log.
    pub epoch: u64,
    /// The catalogue's revision that has the change; 0: it is no change of the catalogue.
    pub revision: u64,
}

impl Stamp {
    /// What was made from `mark` and found in `tier` is older than the change.
    pub fn outdates(&self, mark: Mark, tier: Tier) -> bool {
        let unknown = match tier {
            Tier::L1 => mark.seq < self.seq,
            Tier::L2 => mark.epoch < self.epoch,
        };
        unknown || mark.revision < self.revision
    }

    /// Both changes.
    pub fn joined(self, later: Self) -> Self {
        let epoch = match (self.epoch, later.epoch) {
            // The number of what was not numbered yet. A change of this process alone (0) has none.
            (UNNUMBERED, epoch) if epoch > 0 => epoch,
            (before, epoch) => before.max(epoch),
        };
        Self { seq: self.seq.max(later.seq), epoch, revision: self.revision.max(later.revision) }
    }
}

/// A stamp that is read with every request and never locked. Its parts are written one after the other; who
/// reads between sees one change late, and is before it for all anybody can tell.
#[derive(Debug, Default)]
pub(super) struct Bar {
    seq: AtomicU64,
    epoch: AtomicU64,
    revision: AtomicU64,
}

impl Bar {
    pub fn get(&self) -> Stamp {
        Stamp {
            seq: self.seq.load(Ordering::Acquire),
            epoch: self.epoch.load(Ordering::Acquire),
            revision: self.revision.load(Ordering::Acquire),
        }
    }

    /// Called under the lock of whoever writes.
    pub fn raise(&self, stamp: Stamp) {
        let joined = self.get().joined(stamp);
        self.seq.store(joined.seq, Ordering::Release);
        self.epoch.store(joined.epoch, Ordering::Release);
        self.revision.store(joined.revision, Ordering::Release);
    }
}

/// The latest change of each thing, by its tag.
#[derive(Debug, Default)]
pub(super) struct Marks {
    parts: [Part; PARTS],
    /// The latest change of anything: nothing that is younger needs a look.
    newest: Newest,
}

/// The greatest of each number: it only grows, and answers "surely not" without a lock.
#[derive(Debug, Default)]
struct Newest {
    seq: AtomicU64,
    epoch: AtomicU64,
    revision: AtomicU64,
}

impl Newest {
    fn raise(&self, stamp: Stamp) {
        self.seq.fetch_max(stamp.seq, Ordering::AcqRel);
        self.epoch.fetch_max(stamp.epoch, Ordering::AcqRel);
        self.revision.fetch_max(stamp.revision, Ordering::AcqRel);
    }

    fn outdates(&self, mark: Mark, tier: Tier) -> bool {
        let newest = Stamp {
            seq: self.seq.load(Ordering::Acquire),
            epoch: self.epoch.load(Ordering::Acquire),
            revision: self.revision.load(Ordering::Acquire),
        };
        newest.outdates(mark, tier)
    }
}

#[derive(Debug, Default)]
struct Part {
    changed: RwLock<HashMap<u64, Stamp>>,
    /// When there are too many, the older ones become one: everything before it has changed.
    floor: Bar,
}

impl Marks {
    /// `tag` changed.
    pub fn note(&self, tag: u64, stamp: Stamp) {
        let part = &self.parts[tag as usize % PARTS];
        let mut changed = part.write();
        self.newest.raise(stamp);
        if changed.len() >= MOST_PER_PART && !changed.contains_key(&tag) {
            let all = changed.values().fold(Stamp::default(), |all, stamp| all.joined(*stamp));
            part.floor.raise(all);
            changed.clear();
        }
        let before = changed.get(&tag).copied().unwrap_or_default();
        changed.insert(tag, before.joined(stamp));
    }

    /// One of `tags` changed since `mark`.
    pub fn outdate(&self, tags: &[u64], mark: Mark, tier: Tier) -> bool {
        if tags.is_empty() || !self.newest.outdates(mark, tier) {
            return false;
        }
        tags.iter().any(|&tag| {
            let part = &self.parts[tag as usize % PARTS];
            part.floor.get().outdates(mark, tier)
                || part.read().get(&tag).is_some_and(|stamp| stamp.outdates(mark, tier))
        })
    }
}

impl Part {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<u64, Stamp>> {
        self.changed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u64, Stamp>> {
        self.changed.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u64) -> Stamp {
        Stamp { seq, epoch: seq * 10, revision: 0 }
    }

    fn mark(seq: u64) -> Mark {
        Mark { seq, epoch: seq * 10, revision: 1 }
    }

    #[test]
    fn what_is_older_than_a_change_is_outdated() {
        let marks = Marks::default();
        marks.note(7, stamp(5));
        for tier in Tier::ALL {
            assert!(marks.outdate(&[1, 7], mark(4), tier));
            assert!(!marks.outdate(&[1, 7], mark(5), tier));
            assert!(!marks.outdate(&[1, 2], mark(4), tier));
            assert!(!marks.outdate(&[], mark(4), tier));
        }
    }

    #[test]
    fn what_was_made_from_an_older_catalogue_is_outdated_whenever_it_was_made() {
        let marks = Marks::default();
        marks.note(7, Stamp { revision: 2, ..stamp(5) });
        assert!(marks.outdate(&[7], mark(9), Tier::L1));
        assert!(!marks.outdate(&[7], Mark { revision: 2, ..mark(9) }, Tier::L1));
        assert!(!marks.outdate(&[8], mark(9), Tier::L1));
    }

    #[test]
    fn a_change_without_a_number_is_later_than_anything_in_redis() {
        let marks = Marks::default();
        marks.note(7, Stamp { epoch: UNNUMBERED, ..stamp(5) });
        assert!(marks.outdate(&[7], mark(1_000), Tier::L2));
        assert!(!marks.outdate(&[7], mark(1_000), Tier::L1));
        marks.note(7, stamp(5));
        assert!(!marks.outdate(&[7], mark(5), Tier::L2));
        assert!(marks.outdate(&[7], mark(4), Tier::L2));
    }

    #[test]
    fn a_change_of_this_process_alone_numbers_nothing() {
        let told = Stamp { seq: 3, epoch: UNNUMBERED, revision: 0 };
        let alone = Stamp { seq: 4, epoch: 0, revision: 0 };
        assert_eq!(told.joined(alone), Stamp { seq: 4, ..told });
        assert_eq!(stamp(3).joined(alone), Stamp { seq: 4, ..stamp(3) });
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten() {
        let marks = Marks::default();
        let most = (PARTS * MOST_PER_PART) as u64;
        for tag in 0..3 * most {
            marks.note(tag, stamp(5 + tag));
        }
        let kept: usize = marks.parts.iter().map(|part| part.read().len()).sum();
        assert!(kept as u64 <= most, "{kept}");
        for tag in [0, 1, most, 2 * most, 3 * most - 1] {
            assert!(marks.outdate(&[tag], mark(4 + tag), Tier::L1), "{tag}");
        }
        assert!(!marks.outdate(&[17], mark(5 + 3 * most), Tier::L1));
    }
}
