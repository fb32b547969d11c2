//! Metrics of whatever is remembered.

use super::metrics::Registering;
use crate::app::App;
use crate::decision::{CacheOutcome, Decision};
use crate::route::Endpoint;
use prometheus::{IntCounterVec, IntGaugeVec};

/// Handles of everything that is counted about caches.
pub struct CacheMetrics {
    hits: IntCounterVec,
    misses: IntCounterVec,
    bytes: IntGaugeVec,
    entries: IntGaugeVec,
    invalidations: IntCounterVec,
}

/// The labels of pages of the application: there is one layer of them.
const PAGES: [&str; 2] = ["pages", "l1"];

impl CacheMetrics {
    pub(super) fn register(r: &Registering<'_>) -> prometheus::Result<Self> {
        let labels = ["cache_type", "cache_layer"];
        let metrics = Self {
            hits: r.counters("cache_hits_total", "Answers that were remembered", &labels)?,
            misses: r.counters("cache_misses_total", "Answers that were not", &labels)?,
            bytes: r.gauges("cache_bytes", "Bytes of memory taken", &labels)?,
            entries: r.gauges("cache_entries", "Values remembered", &labels)?,
            invalidations: r.counters(
                "cache_invalidations_total",
                "Values forgotten because something changed",
                &["cache_type", "reason"],
            )?,
        };
        // The first event of a label would be invisible to `increase()` if the label came with it.
        metrics.hits.with_label_values(&PAGES);
        metrics.misses.with_label_values(&PAGES);
        for reason in ["unsafe_method", "operator"] {
            metrics.invalidations.with_label_values(&["pages", reason]);
        }
        Ok(metrics)
    }

    /// Counts what the pages did for a request to the application.
    pub(super) fn record(&self, decision: &Decision) {
        if decision.route != Endpoint::Upstream {
            return;
        }
        match decision.cache.outcome {
            CacheOutcome::HitL1 | CacheOutcome::Stale => {
                self.hits.with_label_values(&PAGES).inc();
            }
            CacheOutcome::Miss => self.misses.with_label_values(&PAGES).inc(),
            CacheOutcome::Bypass => {}
        }
    }

    /// Counts a value that was forgotten because something changed.
    pub fn invalidated(&self, cache_type: &str, reason: &str) {
        self.invalidations.with_label_values(&[cache_type, reason]).inc();
    }

    /// Sets what is only looked at.
    pub fn refresh(&self, app: &App) {
        self.bytes.with_label_values(&PAGES).set(app.pages.bytes() as i64);
        self.entries.with_label_values(&PAGES).set(app.pages.entries() as i64);
    }
}
