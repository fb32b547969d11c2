//! Collections of which a copy shares what has not changed: a catalogue of a million products is another one after
//! the change of one, and only the parts that the change touches are copied.

use super::Ordinal;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Values in a block. Smaller ones cost more to point at, larger ones more to copy: 256 rows take some 50 µs.
const BLOCK: usize = 256;
/// Parts of a map, for the same reason: at a million ids a thousand entries are copied with a change of one.
const PARTS: usize = 1_024;

/// Values by position, some of them absent.
#[derive(Debug, Clone)]
pub(super) struct Blocks<T> {
    blocks: Vec<Arc<Vec<Option<T>>>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Blocks<T> {
    /// One more than the greatest position that ever had a value.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)?.as_ref()
    }

    pub(super) fn set(&mut self, at: usize, value: Option<T>) {
        while self.blocks.len() <= at / BLOCK {
            self.blocks.push(Arc::default());
        }
        let block = Arc::make_mut(&mut self.blocks[at / BLOCK]);
        if block.len() <= at % BLOCK {
            block.resize_with(at % BLOCK + 1, || None);
        }
        block[at % BLOCK] = value;
        self.len = self.len.max(at + 1);
    }

    /// Every value, by ascending position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.flat_map(|(nth, block)| {
            let values = block.iter().enumerate();
            values.filter_map(move |(at, value)| Some((nth * BLOCK + at, value.as_ref()?)))
        })
    }
}

/// Products' numbers by their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids {
    /// None before the first id.
    parts: Vec<Arc<HashMap<Box<str>, Ordinal>>>,
    hasher: RandomState,
    len: usize,
}

impl Ids {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: &str) -> Option<Ordinal> {
        self.parts.get(self.part(id))?.get(id).copied()
    }

    pub(super) fn insert(&mut self, id: &str, ordinal: Ordinal) {
        self.parts.resize_with(PARTS, Arc::default);
        let part = self.part(id);
        let before = Arc::make_mut(&mut self.parts[part]).insert(id.into(), ordinal);
        self.len += usize::from(before.is_none());
    }

    /// Forgets an id, if it is that of `ordinal`: it may be another product's by now.
    pub(super) fn remove(&mut self, id: &str, ordinal: Ordinal) {
        if self.get(id) == Some(ordinal) {
            let part = self.part(id);
            Arc::make_mut(&mut self.parts[part]).remove(id);
            self.len -= 1;
        }
    }

    fn part(&self, id: &str) -> usize {
        self.hasher.hash_one(id) as usize % PARTS
    }
}
