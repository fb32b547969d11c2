//! The features of all candidates of a request, fetched at once.

use super::{Popularity, freshness};
use crate::catalog::{Catalog, Ordinal};
use std::time::Duration;

/// Columns in the order of the candidates they were fetched for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureBatch {
    /// In [0, 1].
    pub popularity: Vec<f32>,
    /// In [0, 1].
    pub freshness: Vec<f32>,
}

impl FeatureBatch {
    /// Reads both columns for `ordinals`. `now` in seconds since 1970.
    pub fn fetch(
        ordinals: impl Iterator<Item = Ordinal>,
        catalog: &Catalog,
        popularity: &Popularity,
        now: i64,
        freshness_half_life: Duration,
    ) -> Self {
        let mut batch = Self::default();
        for ordinal in ordinals {
            let created_at = catalog.row(ordinal).and_then(|row| row.created_at);
            batch.popularity.push(popularity.score(ordinal));
            batch.freshness.push(freshness(created_at, now, freshness_half_life));
        }
        batch
    }
}
