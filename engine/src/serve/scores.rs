//! Where popularity comes from: an embedded store's events are counted here; a shared store's are counted once for the
//! fleet, by the job `popularity`, and every instance reads the scores it made.

use crate::catalog::Catalog;
use crate::features::{Popularity, PopularityBuilder};
use crate::store::{DataStore, PopularityMade, StoreError};
use penstock_config::policy::EventWeights;
use std::sync::Arc;
use std::time::Duration;

/// For operators, when a shared store's scores were never made.
pub(super) const NO_JOB: &str =
    "popularity is counted from all events by every instance: run penstock-control jobs";

/// What popularity is made from. Another one is another popularity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Basis {
    /// So many events, counted here.
    Events(u64),
    /// What the job made.
    Job(PopularityMade),
}

impl Basis {
    pub fn of(store: &dyn DataStore) -> Result<Self, StoreError> {
        if store.is_shared()
            && let Some(made) = store.popularity_made()?
        {
            return Ok(Self::Job(made));
        }
        Ok(Self::Events(store.counts()?.events))
    }

    /// What is not as it should be with it.
    pub fn note(&self, store: &dyn DataStore) -> Option<&'static str> {
        (store.is_shared() && matches!(self, Self::Events(_))).then_some(NO_JOB)
    }
}

/// The popularity of every product of `catalog`.
pub(super) fn popularity(
    store: &dyn DataStore,
    catalog: &Catalog,
    basis: Basis,
    weights: EventWeights,
    half_life: Duration,
) -> Result<Arc<Popularity>, StoreError> {
    let mut builder = PopularityBuilder::new(catalog.columns(), weights, half_life);
    match basis {
        Basis::Events(_) => store.scan_events(&mut |_user, event| {
            if let Some(ordinal) = catalog.ordinal(&event.product_id) {
                builder.add(ordinal, event.kind, event.at_micros);
            }
        })?,
        Basis::Job(made) => {
            // Scores are of the job's half-life, also where the policy has another one by now.
            let half_lives = |micros: i64| micros as f64 / 1e6 / made.half_life.as_secs_f64();
            builder.as_of(made.newest_micros.map_or(f64::NEG_INFINITY, half_lives));
            store.scan_popularity(&made, &mut |ordinal, log2| builder.set(ordinal, log2))?;
        }
    }
    Ok(Arc::new(builder.finish(catalog)))
}
