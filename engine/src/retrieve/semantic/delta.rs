//! Vectors of products that changed since the index was built. They are scanned: twenty thousand of 256 numbers take
//! some milliseconds. In the index itself these products are masked.

use crate::catalog::Ordinal;
use crate::model::embedding::{EmbedError, Embedder, product_text};
use crate::retrieve::Allowed;
use crate::retrieve::vectors::{Owners, Positions};
use crate::store::ChangedProduct;
use std::sync::Arc;

/// Texts that a model is given at once.
const TEXTS: usize = 32;

pub(super) type Vector = Option<Arc<[f32]>>;

/// See the module. A copy shares the vectors.
#[derive(Debug, Clone, Default)]
pub(super) struct Delta {
    /// Products that changed, ascending; without a vector where a product is gone or has no word the model knows.
    changed: Vec<(Ordinal, Vector)>,
    /// The same as a set.
    mask: Allowed,
    /// Of those, how many have a vector in the index.
    masked: usize,
    /// Vectors of the index with an owner that did not change; `None`: all.
    unmasked: Option<Arc<Positions>>,
}

impl Delta {
    /// After these changed, too.
    pub(super) fn after(
        &self,
        changed: &[ChangedProduct],
        embedder: &dyn Embedder,
        owners: &Owners,
    ) -> Result<Self, EmbedError> {
        let mut after = self.clone();
        let mut unmasked = match &self.unmasked {
            Some(unmasked) => Positions::clone(unmasked),
            None => Positions::all(owners.vectors()),
        };
        let new = embed(changed, embedder)?;
        for ordinal in new.iter().map(|(ordinal, _)| *ordinal) {
            if !after.mask.contains(ordinal) {
                after.mask.insert(ordinal);
                after.masked += usize::from(owners.position(ordinal).is_some());
            }
            if let Some(position) = owners.position(ordinal)
                && owners.at(position).all(|owner| after.mask.contains(owner))
            {
                unmasked.remove(position);
            }
        }
        after.changed.retain(|(ordinal, _)| new.binary_search_by_key(ordinal, |n| n.0).is_err());
        // What has no vector anywhere needs no place.
        let counts = |(ordinal, vector): &(Ordinal, Vector)| {
            vector.is_some() || owners.position(*ordinal).is_some()
        };
        after.changed.extend(new.into_iter().filter(counts));
        after.changed.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        // New products alone leave the index as it is, and a search without a mask is cheaper.
        after.unmasked = (after.masked > 0).then(|| Arc::new(unmasked));
        Ok(after)
    }

    /// Where the product changed: its vector, if it has one.
    pub(super) fn get(&self, ordinal: Ordinal) -> Option<&Vector> {
        if !self.mask.contains(ordinal) {
            return None;
        }
        let at = self.changed.binary_search_by_key(&ordinal, |changed| changed.0).ok()?;
        Some(&self.changed[at].1)
    }

    /// Every vector that is there.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ordinal, &[f32])> {
        let vectors = self.changed.iter();
        vectors.filter_map(|(ordinal, vector)| Some((*ordinal, vector.as_deref()?)))
    }

    /// Which vectors of the index may be found; `None`: all.
    pub(super) fn unmasked(&self) -> Option<&Positions> {
        self.unmasked.as_deref()
    }

    /// Which vectors of the index may be found with a filter.
    pub(super) fn positions_of(&self, allowed: &Allowed, owners: &Owners) -> Positions {
        Positions::of(allowed, &self.mask, owners)
    }

    /// Products whose vector in the index does not count.
    pub(super) fn masked(&self) -> usize {
        self.masked
    }

    /// Products that have a vector here.
    pub(super) fn vectors(&self) -> usize {
        self.iter().count()
    }
}

/// What changed with its vectors, ascending.
fn embed(
    changed: &[ChangedProduct],
    embedder: &dyn Embedder,
) -> Result<Vec<(Ordinal, Vector)>, EmbedError> {
    let mut embedded: Vec<(Ordinal, Vector)> = Vec::with_capacity(changed.len());
    for some in changed.chunks(TEXTS) {
        let text = |changed: &ChangedProduct| {
            let product = changed.product.as_ref();
            product.map_or_else(String::new, |product| product_text(product, embedder.kind()))
        };
        let texts: Vec<String> = some.iter().map(text).collect();
        let vectors = embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        let known = |(changed, vector): (&ChangedProduct, Option<Vec<f32>>)| {
            let vector = vector.filter(|_| changed.product.is_some());
            (changed.ordinal, vector.map(Into::into))
        };
        embedded.extend(some.iter().zip(vectors).map(known));
    }
    embedded.sort_unstable_by_key(|(ordinal, _)| *ordinal);
    Ok(embedded)
}
