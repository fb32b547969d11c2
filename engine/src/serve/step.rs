//! From the catalogue that serves to the one of the store: by what changed where that is known, else by reading all.

use super::snapshot::Snapshot;
use crate::catalog::{Catalog, Difference, Ordinal};
use crate::features::Popularity;
use crate::store::{Changes, DataStore, StoreError};
use std::sync::Arc;

/// Products that changed and are taken up one by one; with more, reading all takes no longer.
const MOST: usize = 50_000;
/// How often a catalogue that changes while it is read is read again at once.
const READ_AGAIN: usize = 5;

/// See the module.
pub(super) struct Step {
    /// The catalogue to serve with.
    pub catalog: Arc<Catalog>,
    /// What is different in it, where it was made from the one before.
    pub changes: Option<Changes>,
    /// It was read whole.
    pub whole: bool,
}

impl Step {
    /// Looks, and reads what has to be read.
    pub fn read(current: Option<&Snapshot>, store: &dyn DataStore) -> Result<Self, StoreError> {
        let revision = store.catalog_revision()?;
        let Some(current) = current else {
            return load_whole(store, revision);
        };
        let before = &current.catalog;
        if before.revision() == revision {
            return Ok(Self { catalog: before.clone(), changes: None, whole: false });
        }
        match store.changes_since(before.revision(), MOST)? {
            Some(changes) => {
                let catalog = Arc::new(before.after(&changes));
                Ok(Self { catalog, changes: Some(changes), whole: false })
            }
            None => load_whole(store, revision),
        }
    }

    /// The catalogue is the one that serves.
    pub fn is_none(&self) -> bool {
        self.changes.is_none() && !self.whole
    }

    /// Numbers of the products that may be different, ascending; `None`: all.
    pub fn touched(&self) -> Option<Vec<Ordinal>> {
        let numbers = |changes: &Changes| changes.products.iter().map(|c| c.ordinal).collect();
        (!self.whole).then(|| self.changes.as_ref().map_or_else(Vec::new, numbers))
    }

    /// What is different from `before`, naming `most` products and one at most.
    pub fn difference(&self, before: &Catalog, most: usize) -> Difference {
        match self.touched() {
            Some(touched) => before.difference(&self.catalog, touched, most),
            None => before.difference(&self.catalog, before.numbers(&self.catalog), most),
        }
    }

    /// A product came or went since `before`.
    pub fn comes_or_goes(&self, before: &Catalog) -> bool {
        let touched = self.touched().unwrap_or_default();
        touched.iter().any(|o| before.row(*o).is_some() != self.catalog.row(*o).is_some())
    }

    /// The popularity of `current` for the catalogue of this step. Prices and words are nothing to it.
    pub fn popularity(&self, current: &Snapshot) -> Arc<Popularity> {
        let figure = |catalog: &Catalog, ordinal| {
            catalog.row(ordinal).map(|row| row.popularity.map(f64::to_bits))
        };
        let mut touched = self.touched().unwrap_or_default();
        touched.retain(|o| figure(&current.catalog, *o) != figure(&self.catalog, *o));
        if touched.is_empty() {
            return current.popularity.clone();
        }
        Arc::new(current.popularity.after(&self.catalog, touched))
    }
}

/// The catalogue of one revision: what was changed while it was read is not taken for what it was before.
fn load_whole(store: &dyn DataStore, mut revision: u64) -> Result<Step, StoreError> {
    for _ in 0..READ_AGAIN {
        let mut catalog = Catalog::new(revision);
        store.scan_products(&mut |stored| catalog.push(stored.ordinal, &stored.product))?;
        let now = store.catalog_revision()?;
        if now == revision {
            return Ok(Step { catalog: Arc::new(catalog), changes: None, whole: true });
        }
        // Mostly a few products: they are read by themselves, and the whole is not in vain.
        if let Some(changes) = store.changes_since(revision, MOST)? {
            let catalog = Arc::new(catalog.after(&changes));
            return Ok(Step { catalog, changes: None, whole: true });
        }
        revision = now;
    }
    Err(StoreError::Unavailable("the catalogue changes faster than it can be read".into()))
}
