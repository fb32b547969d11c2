//! Metrics of the caches, under the names operators know: `cache_hits_total` and so on.

use super::caches::Named;
use super::metrics::Registering;
use crate::app::App;
use crate::results::Warmed;
use crate::results::warm::Occasion;
use penstock_config::clock::SharedClock;
use penstock_engine::cache::{CacheKind, Observe, Operation, Reason, Tier};
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of operations in seconds: memory takes a microsecond, Redis as long as a round trip, at most its
/// deadline.
const OPERATION_SECONDS: [f64; 15] =
    [5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 1e-1];
/// Upper bounds of rounds of warming, seconds.
const WARMING_SECONDS: [f64; 9] = [0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// The hit rate is of so long, by what was counted when metrics were read.
const RATE_WINDOW: Duration = Duration::from_secs(300);
/// Readings closer together than this are not kept apart.
const RATE_STEP: Duration = Duration::from_secs(5);

const KINDS: usize = CacheKind::ALL.len();
const TIERS: usize = Tier::ALL.len();
const OPERATIONS: usize = Operation::ALL.len();

type Counts = [[(u64, u64); TIERS]; KINDS];

/// Handles of everything that is counted about caches.
#[derive(Clone)]
pub struct LayerMetrics {
    hits: [[IntCounter; TIERS]; KINDS],
    misses: [[IntCounter; TIERS]; KINDS],
    operations: [[Histogram; OPERATIONS]; KINDS],
    invalidations: IntCounterVec,
    not_written: [IntCounter; KINDS],
    rate: GaugeVec,
    breaker: IntGaugeVec,
    bytes: IntGaugeVec,
    entries: IntGaugeVec,
    hears: IntGauge,
    pending: IntGauge,
    under_way: IntGauge,
    bytes_max: IntGaugeVec,
    warming_rounds: [IntCounter; Occasion::ALL.len()],
    warmed: [IntCounter; Warmed::ALL.len()],
    warming_running: IntGauge,
    warming_seconds: Histogram,
    readings: Arc<Mutex<VecDeque<(Instant, Counts)>>>,
}

impl LayerMetrics {
    pub(super) fn register(r: &Registering<'_>, named: &Named) -> prometheus::Result<Self> {
        let labels = ["cache_type", "cache_layer"];
        let operations: HistogramVec = r.histograms_of(
            "cache_operation_latency_seconds",
            "Time of one operation",
            &["cache_type", "operation"],
            &OPERATION_SECONDS,
        )?;
        let not_written = r.counters(
            "penstock_cache_not_written_total",
            "Values not written to Redis: too many were being written, or it failed",
            &["cache_type"],
        )?;
        let rounds =
            r.counters("cache_warming_rounds_total", "Rounds of warming", &["occasion"])?;
        let warmed = r.counters(
            "cache_warming_entries_total",
            "Answers that were made, or were there, before they were asked for",
            &["outcome"],
        )?;
        let warming_seconds = r.histograms_of(
            "cache_warming_duration_seconds",
            "Time of one round",
            &[],
            &WARMING_SECONDS,
        )?;
        let of_tiers = |counters: &IntCounterVec| {
            CacheKind::ALL.map(|kind| {
                Tier::ALL.map(|tier| counters.with_label_values(&[kind.name(), tier.name()]))
            })
        };
        let metrics = Self {
            hits: of_tiers(&named.hits),
            misses: of_tiers(&named.misses),
            operations: CacheKind::ALL.map(|kind| {
                Operation::ALL
                    .map(|operation| operations.with_label_values(&[kind.name(), operation.name()]))
            }),
            invalidations: named.invalidations.clone(),
            not_written: CacheKind::ALL.map(|kind| not_written.with_label_values(&[kind.name()])),
            rate: r.float_gauges(
                "cache_hit_rate",
                "Share of look-ups of the last five minutes that found something",
                &labels,
            )?,
            breaker: r.gauges(
                "cache_circuit_breaker_state",
                "The breaker in front of the second tier: 0 closed, 1 open, 2 half-open",
                &["cache_type"],
            )?,
            bytes: named.bytes.clone(),
            entries: named.entries.clone(),
            hears: r.gauge(
                "penstock_cache_hears",
                "1 while no message about changes is missed; 0: Redis is not used for values",
            )?,
            pending: r
                .gauge("penstock_cache_changes_pending", "Changes the fleet was not told of yet")?,
            under_way: r.gauge("penstock_cache_under_way", "Answers being made")?,
            bytes_max: named.bytes_max.clone(),
            warming_rounds: Occasion::ALL.map(|o| rounds.with_label_values(&[o.name()])),
            warmed: Warmed::ALL.map(|outcome| warmed.with_label_values(&[outcome.name()])),
            warming_running: r.gauge("cache_warming_running", "1 while a round goes on")?,
            warming_seconds: warming_seconds.with_label_values::<&str>(&[]),
            readings: Arc::default(),
        };
        for kind in CacheKind::ALL {
            for reason in Reason::ALL {
                metrics.invalidations.with_label_values(&[kind.name(), reason.name()]);
            }
        }
        Ok(metrics)
    }

    /// A round of warming begins.
    pub fn warming_began(&self, occasion: Occasion) {
        self.warming_rounds[occasion as usize].inc();
        self.warming_running.set(1);
    }

    /// An answer of the round is dealt with.
    pub fn warmed(&self, outcome: Warmed) {
        self.warmed[outcome as usize].inc();
    }

    /// The round is over.
    pub fn warming_ended(&self, took: Duration) {
        self.warming_running.set(0);
        self.warming_seconds.observe(took.as_secs_f64());
    }

    /// Sets what is only looked at.
    pub fn refresh(&self, app: &App) {
        for (kind, bytes, entries) in app.caches.held().into_iter().chain(app.results.held()) {
            let labels = [kind.name(), Tier::L1.name()];
            self.bytes.with_label_values(&labels).set(bytes as i64);
            self.entries.with_label_values(&labels).set(entries as i64);
        }
        let log = app.caches.log.status();
        self.hears.set(log.hears.into());
        self.pending.set(log.pending as i64);
        self.under_way.set(app.results.under_way() as i64);
        let state = app.link.as_ref().map_or(0, |link| link.breaker().state() as i64);
        let policy = app.policies.current();
        for kind in CacheKind::ALL {
            self.breaker.with_label_values(&[kind.name()]).set(state);
            let most = kind.layer(&policy.cache).memory;
            self.bytes_max.with_label_values(&[kind.name(), Tier::L1.name()]).set(most as i64);
        }
        self.rates(&app.clock);
    }

    fn rates(&self, clock: &SharedClock) {
        let now = clock.now();
        let counts: Counts = std::array::from_fn(|kind| {
            std::array::from_fn(|tier| (self.hits[kind][tier].get(), self.misses[kind][tier].get()))
        });
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |at: Instant| now.saturating_duration_since(at) > RATE_WINDOW;
        while readings.len() > 1 && readings.get(1).is_some_and(|(at, _)| old(*at)) {
            readings.pop_front();
        }
        if readings.is_empty() {
            // Before the first reading nothing was counted.
            readings.push_back((now, [[(0, 0); TIERS]; KINDS]));
        }
        let before = readings[0].1;
        if readings.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= RATE_STEP) {
            readings.push_back((now, counts));
        }
        drop(readings);
        for kind in CacheKind::ALL {
            for tier in Tier::ALL {
                let (now, before) =
                    (counts[kind as usize][tier as usize], before[kind as usize][tier as usize]);
                // A process that was just started has nothing before.
                let (hits, misses) = (now.0 - before.0, now.1 - before.1);
                let rate = hits as f64 / (hits + misses).max(1) as f64;
                self.rate.with_label_values(&[kind.name(), tier.name()]).set(rate);
            }
        }
    }
}

impl Observe for LayerMetrics {
    fn looked_up(&self, kind: CacheKind, tier: Tier, hit: bool) {
        let counters = if hit { &self.hits } else { &self.misses };
        counters[kind as usize][tier as usize].inc();
    }

    fn took(&self, kind: CacheKind, operation: Operation, time: Duration) {
        self.operations[kind as usize][operation as usize].observe(time.as_secs_f64());
    }

    fn invalidated(&self, kind: Option<CacheKind>, reason: Reason) {
        for one in CacheKind::ALL {
            if kind.is_none_or(|kind| kind == one) {
                self.invalidations.with_label_values(&[one.name(), reason.name()]).inc();
            }
        }
    }

    fn not_written(&self, kind: CacheKind) {
        self.not_written[kind as usize].inc();
    }
}
