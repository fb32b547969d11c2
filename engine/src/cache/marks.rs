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

/// When something changed. Each number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    /// Here: the number of the latest note.
    pub seq: u64,
    /// In the fleet: the number of the latest change that has one.
    pub epoch: u64,
    /// Here: the number of the latest note that had no number of the fleet when it was made; 0: none.
    pub untold: u64,
    /// The catalogue's revision that has the change; 0: it is no change of the catalogue.
    pub revision: u64,
}

/// From where something comes that is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct From {
    pub tier: Tier,
    /// Every note up to this one that is for the fleet has its number.
    pub told: u64,
}

impl Stamp {
    /// What was made from `mark` and comes from there is older than the change.
    pub fn outdates(&self, mark: Mark, from: From) -> bool {
        let unknown = match from.tier {
            Tier::L1 => mark.seq < self.seq,
            // Nothing in Redis can know of what the fleet was not told of.
            Tier::L2 => mark.epoch < self.epoch || self.untold > from.told,
        };
        unknown || mark.revision < self.revision
    }

    /// Both changes.
    pub fn joined(self, other: Self) -> Self {
        Self {
            seq: self.seq.max(other.seq),
            epoch: self.epoch.max(other.epoch),
            untold: self.untold.max(other.untold),
            revision: self.revision.max(other.revision),
        }
    }
}

/// A stamp that is read with every request and never locked. Its parts are written one after the other; who
/// reads between sees one change late, and is before it for all anybody can tell.
#[derive(Debug, Default)]
pub(super) struct Bar {
    seq: AtomicU64,
    epoch: AtomicU64,
    untold: AtomicU64,
    revision: AtomicU64,
}

impl Bar {
    pub fn get(&self) -> Stamp {
        Stamp {
            seq: self.seq.load(Ordering::Acquire),
            epoch: self.epoch.load(Ordering::Acquire),
            untold: self.untold.load(Ordering::Acquire),
            revision: self.revision.load(Ordering::Acquire),
        }
    }

    pub fn raise(&self, stamp: Stamp) {
        self.seq.fetch_max(stamp.seq, Ordering::AcqRel);
        self.epoch.fetch_max(stamp.epoch, Ordering::AcqRel);
        self.untold.fetch_max(stamp.untold, Ordering::AcqRel);
        self.revision.fetch_max(stamp.revision, Ordering::AcqRel);
    }
}

/// The latest change of each thing, by its tag.
#[derive(Debug, Default)]
pub(super) struct Marks {
    parts: [Part; PARTS],
    /// The latest change of anything: nothing that is younger needs a look.
    newest: Bar,
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
    pub fn outdate(&self, tags: &[u64], mark: Mark, from: From) -> bool {
        if tags.is_empty() || !self.newest.get().outdates(mark, from) {
            return false;
        }
        tags.iter().any(|&tag| {
            let part = &self.parts[tag as usize % PARTS];
            part.floor.get().outdates(mark, from)
                || part.read().get(&tag).is_some_and(|stamp| stamp.outdates(mark, from))
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
        Stamp { seq, epoch: seq * 10, ..Stamp::default() }
    }

    fn mark(seq: u64) -> Mark {
        Mark { seq, epoch: seq * 10, revision: 1 }
    }

    const L1: From = From { tier: Tier::L1, told: 0 };

    fn l2(told: u64) -> From {
        From { tier: Tier::L2, told }
    }

    #[test]
    fn what_is_older_than_a_change_is_outdated() {
        let marks = Marks::default();
        marks.note(7, stamp(5));
        for from in [L1, l2(0)] {
            assert!(marks.outdate(&[1, 7], mark(4), from));
            assert!(!marks.outdate(&[1, 7], mark(5), from));
            assert!(!marks.outdate(&[1, 2], mark(4), from));
            assert!(!marks.outdate(&[], mark(4), from));
        }
    }

    #[test]
    fn what_was_made_from_an_older_catalogue_is_outdated_whenever_it_was_made() {
        let marks = Marks::default();
        marks.note(7, Stamp { revision: 2, ..stamp(5) });
        assert!(marks.outdate(&[7], mark(9), L1));
        assert!(!marks.outdate(&[7], Mark { revision: 2, ..mark(9) }, L1));
        assert!(!marks.outdate(&[8], mark(9), L1));
    }

    #[test]
    fn nothing_in_redis_knows_of_a_change_the_fleet_was_not_told_of() {
        let marks = Marks::default();
        marks.note(7, Stamp { seq: 5, untold: 5, ..Stamp::default() });
        assert!(marks.outdate(&[7], mark(1_000), l2(4)));
        assert!(!marks.outdate(&[7], mark(1_000), L1));
        // Another change of it has a number; this one still has none.
        marks.note(7, stamp(6));
        assert!(marks.outdate(&[7], mark(1_000), l2(4)));
        // Told: its number is what counts.
        marks.note(7, Stamp { seq: 8, epoch: 70, ..Stamp::default() });
        assert!(!marks.outdate(&[7], mark(8), l2(5)));
        assert!(marks.outdate(&[7], mark(6), l2(5)));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten() {
        let marks = Marks::default();
        let most = (PARTS * MOST_PER_PART) as u64;
        marks.note(3, Stamp { seq: 4, untold: 4, ..Stamp::default() });
        for tag in 0..3 * most {
            marks.note(tag, stamp(5 + tag));
        }
        let kept: usize = marks.parts.iter().map(|part| part.read().len()).sum();
        assert!(kept as u64 <= most, "{kept}");
        for tag in [0, 1, most, 2 * most, 3 * most - 1] {
            assert!(marks.outdate(&[tag], mark(4 + tag), L1), "{tag}");
        }
        assert!(!marks.outdate(&[17], mark(5 + 3 * most), L1));
        assert!(
            marks.outdate(&[3], mark(9 * most), l2(3)),
            "it was not told when it became one of many"
        );
        assert!(!marks.outdate(&[3], mark(9 * most), l2(4)));
    }
}
