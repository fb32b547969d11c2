//! Metrics that all caches share, and those of the application's pages.

use super::metrics::Registering;
use crate::app::App;
use crate::decision::{CacheOutcome, Decision};
use crate::route::Endpoint;
use prometheus::{IntCounterVec, IntGaugeVec};

/// Metrics with a series for each cache.
#[derive(Clone)]
pub(super) struct Named {
    pub hits: IntCounterVec,
    pub misses: IntCounterVec,
    pub bytes: IntGaugeVec,
    pub bytes_max: IntGaugeVec,
    pub entries: IntGaugeVec,
    pub invalidations: IntCounterVec,
}

impl Named {
    pub(super) fn register(r: &Registering<'_>) -> prometheus::Result<Self> {
        let labels = ["cache_type", "cache_layer"];
        Ok(Self {
            hits: r.counters("cache_hits_total", "Look-ups that found something", &labels)?,
            misses: r.counters("cache_misses_total", "Look-ups that found nothing", &labels)?,
            bytes: r.gauges("cache_bytes", "Bytes of memory taken", &labels)?,
            bytes_max: r.gauges("cache_bytes_max", "Bytes of memory allowed", &labels)?,
            entries: r.gauges("cache_entries", "Values remembered in memory", &labels)?,
            invalidations: r.counters(
                "cache_invalidations_total",
                "Changes after which something remembered did not hold any more",
                &["cache_type", "reason"],
            )?,
        })
    }
}

/// Handles of what is counted about pages of the application.
pub struct PageMetrics {
    named: Named,
}

/// The labels of pages of the application: there is one layer of them.
const PAGES: [&str; 2] = ["pages", "l1"];

impl PageMetrics {
    pub(super) fn new(named: Named) -> Self {
        // The first event of a label would be invisible to `increase()` if the label came with it.
        named.hits.with_label_values(&PAGES);
        named.misses.with_label_values(&PAGES);
        for reason in ["unsafe_method", "operator"] {
            named.invalidations.with_label_values(&["pages", reason]);
        }
        Self { named }
    }

    /// Counts what the pages did for a request to the application.
    pub(super) fn record(&self, decision: &Decision) {
        if decision.route != Endpoint::Upstream {
            return;
        }
        match decision.cache.outcome {
            CacheOutcome::HitL1 | CacheOutcome::HitL2 | CacheOutcome::Stale => {
                self.named.hits.with_label_values(&PAGES).inc();
            }
            CacheOutcome::Miss => self.named.misses.with_label_values(&PAGES).inc(),
            CacheOutcome::Bypass => {}
        }
    }

    /// Counts a page that was forgotten because something changed.
    pub fn invalidated(&self, reason: &str) {
        self.named.invalidations.with_label_values(&["pages", reason]).inc();
    }

    /// Sets what is only looked at.
    pub fn refresh(&self, app: &App) {
        self.named.bytes.with_label_values(&PAGES).set(app.pages.bytes() as i64);
        let most = app.policies.current().cache.pages.memory;
        self.named.bytes_max.with_label_values(&PAGES).set(most as i64);
        self.named.entries.with_label_values(&PAGES).set(app.pages.entries() as i64);
    }
}
