//! What changed since an index version was built, kept in memory over it.
//!
//! The version knows the text of every product it was made of ([`Texts`]), so what is different by now is known
//! after a restart, too, however long ago it changed; a price alone is no difference. What is different is given to
//! the retrievers, which answer as if they were built anew. A bounded number of products is taken up, the newest
//! first; products that are gone cost next to nothing and are left out however many they are.

use super::snapshot::Index;
use crate::catalog::{Catalog, Ordinal, Product};
use crate::retrieve::Retriever;
use crate::store::{Bulk, ChangedProduct, Changes, StoreError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Products that are kept in memory: searches take some milliseconds longer with so many.
const MOST: usize = 20_000;
/// Changes of any kind that are read one by one to see which are of text; with more, all products are read.
const MOST_READ: usize = 50_000;

/// How much an index version lacks, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Overlay {
    /// Products that are new or others since the index was built, and found by what they are now.
    pub products: usize,
    /// Products that are gone since, and not found any more.
    pub gone: usize,
    /// Products beyond what memory takes: found by what they were when the index was built.
    pub behind: usize,
}

/// Keeps the retrievers of an index version at the catalogue.
#[derive(Default)]
pub(super) struct Follow {
    /// As it was loaded.
    base: Index,
    /// The text of each product that is not the one in the version; `None`: gone.
    known: HashMap<Ordinal, Option<u64>>,
    /// How many of them are not gone.
    there: usize,
    behind: HashSet<Ordinal>,
    /// It cannot be told what changed since the version was built.
    unknown: bool,
    faults: Vec<String>,
}

impl Follow {
    /// Takes up what is different in `catalog`; gives the index to serve with.
    pub fn start(
        base: Index,
        catalog: &Catalog,
        store: &dyn Bulk,
    ) -> Result<(Self, Index), StoreError> {
        let mut follow = Self { base: base.clone(), ..Self::default() };
        if base.retrievers.is_empty() {
            return Ok((follow, base));
        }
        let Some(Different { mut products, behind }) = different(&base, catalog, store)? else {
            follow.unknown = true;
            return Ok((follow, base));
        };
        // The newest are the likeliest to be looked for.
        products.sort_unstable_by_key(|changed| std::cmp::Reverse(changed.ordinal));
        follow.behind.extend(behind);
        let index = follow.apply(&base, products);
        Ok((follow, index))
    }

    /// As [`Follow::start`], of the same version and a catalogue that was read whole.
    pub fn again(&self, catalog: &Catalog, store: &dyn Bulk) -> Result<(Self, Index), StoreError> {
        Self::start(self.base.clone(), catalog, store)
    }

    /// Takes up what changed since `before`; `None`: nothing that an index knows of.
    pub fn follow(&mut self, index: &Index, before: &Catalog, changes: &Changes) -> Option<Index> {
        if self.base.retrievers.is_empty() {
            return None;
        }
        let other = |changed: &&ChangedProduct| {
            let was = self.known.get(&changed.ordinal).copied();
            let was = was.unwrap_or_else(|| before.row(changed.ordinal).map(|row| row.text));
            was != text(changed)
        };
        let others: Vec<ChangedProduct> = changes.products.iter().filter(other).cloned().collect();
        (!others.is_empty()).then(|| self.apply(index, others))
    }

    /// For operators: what is wrong.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.faults.clone();
        let version = &self.base.version;
        if self.unknown {
            notes.push(format!(
                "index: it cannot be told what changed since {version} was built; run \
                 penstock-control index"
            ));
        }
        if !self.behind.is_empty() {
            let behind = self.behind.len();
            notes.push(format!(
                "index: {behind} products changed since {version} was built, more than memory takes, and are \
                 found by what they were; run penstock-control index"
            ));
        }
        notes
    }

    fn apply(&mut self, index: &Index, changed: Vec<ChangedProduct>) -> Index {
        let taken: Vec<ChangedProduct> =
            changed.into_iter().filter(|changed| self.take(changed)).collect();
        let retrievers = index.retrievers.iter().map(|retriever| after(retriever, &taken));
        let mut followed = Index { retrievers: Vec::new(), ..index.clone() };
        for retriever in retrievers {
            match retriever {
                Ok(retriever) => followed.retrievers.push(retriever),
                Err((retriever, fault)) => {
                    tracing::error!("{fault}");
                    self.faults = vec![fault];
                    followed.retrievers.push(retriever);
                }
            }
        }
        followed.overlay = Overlay {
            products: self.there,
            gone: self.known.len() - self.there,
            behind: self.behind.len(),
        };
        followed
    }

    /// Whether there is room for a change; counts it.
    fn take(&mut self, changed: &ChangedProduct) -> bool {
        let text = text(changed);
        let counted = self.known.get(&changed.ordinal).is_some_and(Option::is_some);
        if text.is_some() && !counted && self.there >= MOST {
            self.behind.insert(changed.ordinal);
            return false;
        }
        self.behind.remove(&changed.ordinal);
        let texts = self.base.texts.as_ref();
        if text.is_none() && texts.is_some_and(|texts| texts.get(changed.ordinal).is_none()) {
            // It came and went, and the version never knew of it.
            self.known.remove(&changed.ordinal);
        } else {
            self.known.insert(changed.ordinal, text);
        }
        self.there = self.there - usize::from(counted) + usize::from(text.is_some());
        true
    }
}

/// The retriever after changes; as it was, and why, where it cannot follow.
fn after(
    retriever: &Arc<dyn Retriever>,
    taken: &[ChangedProduct],
) -> Result<Arc<dyn Retriever>, (Arc<dyn Retriever>, String)> {
    match retriever.after(taken) {
        Ok(after) => Ok(after.unwrap_or_else(|| retriever.clone())),
        Err(error) => {
            let fault = format!("{error}; it does not know of all that changed since");
            Err((retriever.clone(), fault))
        }
    }
}

fn text(changed: &ChangedProduct) -> Option<u64> {
    changed.product.as_ref().map(Product::text_hash)
}

/// Products that are not what they were when a version was built.
#[derive(Default)]
struct Different {
    products: Vec<ChangedProduct>,
    /// More of them, for which there is no room.
    behind: Vec<Ordinal>,
}

/// What is different; `None`: that cannot be told.
fn different(
    base: &Index,
    catalog: &Catalog,
    store: &dyn Bulk,
) -> Result<Option<Different>, StoreError> {
    let few = |products| Some(Different { products, ..Different::default() });
    let changes = store.changes_since(base.revision, MOST_READ)?;
    match (changes, &base.texts) {
        (Some(Changes { products, .. }), Some(texts)) => {
            let other = |changed: &ChangedProduct| text(changed) != texts.get(changed.ordinal);
            Ok(few(products.into_iter().filter(other).collect()))
        }
        // A version of an older program: whatever changed may be text.
        (Some(Changes { products, .. }), None) => Ok(few(products)),
        (None, None) => Ok(None),
        (None, Some(texts)) => read_different(&texts.changed_in(catalog), catalog, store).map(Some),
    }
}

/// Reads the newest of `changed` that are there.
fn read_different(
    changed: &[Ordinal],
    catalog: &Catalog,
    store: &dyn Bulk,
) -> Result<Different, StoreError> {
    let (there, gone): (Vec<Ordinal>, Vec<Ordinal>) =
        changed.iter().partition(|ordinal| catalog.row(**ordinal).is_some());
    // Ascending, as the numbers are.
    let (behind, wanted) = there.split_at(there.len().saturating_sub(MOST));
    let gone = gone.into_iter();
    let gone = gone.map(|ordinal| ChangedProduct { ordinal, id: String::new(), product: None });
    let mut products: Vec<ChangedProduct> = gone.collect();
    if !wanted.is_empty() {
        store.scan_products(&mut |stored| {
            if wanted.binary_search(&stored.ordinal).is_ok() {
                let (ordinal, product) = (stored.ordinal, stored.product);
                let id = product.id.clone();
                products.push(ChangedProduct { ordinal, id, product: Some(product) });
            }
        })?;
    }
    Ok(Different { products, behind: behind.to_vec() })
}
