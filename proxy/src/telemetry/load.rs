//! Metrics of the ladder and of the load that moves it.

use super::metrics::Registering;
use crate::app::App;
use crate::route::Endpoint;
use penstock_engine::resilience::Mode;
use penstock_engine::resilience::ladder::Why;
use prometheus::{Gauge, IntCounterVec};

/// The endpoints that have rungs.
const LADDERED: [Endpoint; 5] = [
    Endpoint::Search,
    Endpoint::Explain,
    Endpoint::Recommend,
    Endpoint::Similar,
    Endpoint::Popular,
];

/// Handles of everything that is counted about the ladder.
pub struct LoadMetrics {
    steps: IntCounterVec,
    limit: Gauge,
    in_flight: Gauge,
    baseline: Gauge,
    waiting: Gauge,
}

impl LoadMetrics {
    pub(super) fn register(r: &Registering<'_>) -> prometheus::Result<Self> {
        let metrics = Self {
            steps: r.counters(
                "penstock_ladder_total",
                "Requests by how much was to be done for them at best, and why no more",
                &["route", "mode", "reason"],
            )?,
            limit: r.float_gauge(
                "penstock_load_limit",
                "Searches in full that are computed at once at most, as it stands now",
            )?,
            in_flight: r.float_gauge(
                "penstock_load_in_flight",
                "Answers being computed, each as what it costs of a search in full",
            )?,
            baseline: r.float_gauge(
                "penstock_load_baseline_seconds",
                "A search in full without waiting, on average; 0 when there was none lately",
            )?,
            waiting: r.float_gauge(
                "penstock_load_waiting_seconds",
                "What an answer waits for ranking threads lately, on average",
            )?,
        };
        // The first event of a label would be invisible to `increase()` if the label came with it.
        for endpoint in LADDERED {
            metrics.step(endpoint, Mode::Full.name(), Why::Nothing, 0);
            for mode in [Mode::KeywordOnly, Mode::Unpersonalised, Mode::Stale, Mode::Popular] {
                metrics.step(endpoint, mode.name(), Why::Load, 0);
            }
            metrics.step(endpoint, REFUSED, Why::Load, 0);
        }
        Ok(metrics)
    }

    /// Counts a rung that was chosen.
    pub fn chosen(&self, endpoint: Endpoint, mode: Mode, why: Why) {
        self.step(endpoint, mode.name(), why, 1);
    }

    /// Counts a request for which there was no room at all.
    pub fn refused(&self, endpoint: Endpoint) {
        self.step(endpoint, REFUSED, Why::Load, 1);
    }

    fn step(&self, endpoint: Endpoint, mode: &str, why: Why, times: u64) {
        self.steps.with_label_values(&[endpoint.name(), mode, why.name()]).inc_by(times);
    }

    /// Sets what is only looked at.
    pub fn refresh(&self, app: &App) {
        let status = app.ladder.status(app);
        self.limit.set(status.limit);
        self.in_flight.set(status.in_flight);
        self.baseline.set(status.baseline_ms.unwrap_or_default() / 1e3);
        self.waiting.set(status.waiting_ms / 1e3);
    }
}

/// In place of a mode.
const REFUSED: &str = "refused";
