//! What is known of every client that asked lately, in bounded memory.

use super::who::Counted;
use indexmap::IndexMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts with a lock each, so that threads seldom meet.
const PARTS: usize = 64;
/// Clients compared when one has to be forgotten.
const COMPARED: usize = 8;

/// What is kept of a client.
pub trait Entry: Default {
    /// How much there is to lose by forgetting it: who used less goes first.
    fn worth(&self) -> u64;
}

/// An entry for everybody who asked lately.
#[derive(Debug)]
pub struct Table<E> {
    parts: Vec<Mutex<IndexMap<Counted, E>>>,
    hasher: RandomState,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        let part = |_| Mutex::new(IndexMap::new());
        Self { parts: (0..PARTS).map(part).collect(), hasher: RandomState::new() }
    }
}

impl<E: Entry> Table<E> {
    /// Hands the entry of `who` to `act`. When there are `most` already, a new one takes the place of
    /// one of those worth least: to be forgotten, somebody who asks a lot would have to look idle first.
    pub fn with<R>(&self, who: Counted, most: usize, act: impl FnOnce(&mut E) -> R) -> R {
        let mut part = self.part(who);
        if let Some(entry) = part.get_mut(&who) {
            return act(entry);
        }
        while part.len() >= (most / PARTS).max(1) {
            forget_one(&mut part);
        }
        act(part.entry(who).or_default())
    }

    /// What is known of `who`, if anything is.
    pub fn get<R>(&self, who: Counted, look: impl FnOnce(&mut E) -> R) -> Option<R> {
        self.part(who).get_mut(&who).map(look)
    }

    fn part(&self, who: Counted) -> MutexGuard<'_, IndexMap<Counted, E>> {
        let part = self.hasher.hash_one(who) as usize % PARTS;
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `pick` takes of each, part by part.
    pub fn collect<R>(&self, mut pick: impl FnMut(Counted, &mut E) -> Option<R>) -> Vec<R> {
        let mut picked = Vec::new();
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            picked.extend(part.iter_mut().filter_map(|(who, entry)| pick(*who, entry)));
        }
        picked
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let len = |part: &Mutex<IndexMap<_, _>>| {
            part.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.parts.iter().map(len).sum()
    }
}

/// Forgets, of a few taken at random, the one worth least.
fn forget_one<E: Entry>(part: &mut IndexMap<Counted, E>) {
    let all = part.len();
    let candidates = (0..COMPARED).map(|_| rand::random_range(0..all));
    let least = candidates.min_by_key(|&at| part[at].worth());
    if let Some(least) = least {
        part.swap_remove_index(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Meter, Who};
    use penstock_config::policy::Limit;

    #[test]
    fn a_flood_of_addresses_neither_grows_for_ever_nor_forgives_the_busy() {
        let limit = Limit { per_minute: 10, burst: 12 };
        let table: Table<Meter> = Table::default();
        let most = PARTS * 100;
        let ask = |address: u32| {
            let who = Counted { who: Who::Address(address), rule: 7 };
            table.with(who, most, |meter| meter.ask(0, limit, 1).admitted)
        };
        assert!((0..12).all(|_| ask(1)));
        for address in 1_000..51_000 {
            ask(address);
        }
        assert_eq!(table.len(), most);
        assert!(!ask(1));
    }
}
