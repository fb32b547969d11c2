//! Metrics of admission: limits, lists, abuse, and the Redis behind them.

use super::metrics::Registering;
use crate::admission::abuse::Pattern;
use crate::admission::{By, Outcome, Shared, Verdict};
use crate::app::App;
use crate::route::Endpoint;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::time::Duration;

/// Upper bounds of decisions in seconds: one in this process takes less than a microsecond, one of
/// Redis as long as a round trip, at most its deadline.
const DECISION_SECONDS: [f64; 16] = [
    5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 2e-2, 5e-2, 1e-1,
];

/// Handles of everything that is counted about admission.
pub struct LimitMetrics {
    hits: IntCounterVec,
    shadow_hits: IntCounterVec,
    degraded: IntCounterVec,
    abuse: IntCounterVec,
    flagged: IntGauge,
    pauses: IntCounter,
    paused: IntGauge,
    decisions: [Histogram; By::ALL.len()],
    clients: IntGauge,
    clients_max: IntGauge,
    fallback: IntGauge,
    fallbacks: IntCounter,
    instances: IntGauge,
    redis_connected: IntGauge,
    redis_calls: IntCounterVec,
    breakers: IntGaugeVec,
}

impl LimitMetrics {
    pub(super) fn register(r: &Registering<'_>) -> prometheus::Result<Self> {
        let decisions: HistogramVec = r.histograms_of(
            "penstock_rate_limit_decision_seconds",
            "From asking the limits to their verdict, by who decided",
            &["by"],
            &DECISION_SECONDS,
        )?;
        let metrics = Self {
            hits: r.counters(
                "rate_limit_hits_total",
                "Requests refused because their client asked too often",
                &["endpoint", "type"],
            )?,
            shadow_hits: r.counters(
                "penstock_rate_limit_shadow_hits_total",
                "Requests that a shadow rule would have refused",
                &["endpoint", "type"],
            )?,
            degraded: r.counters(
                "penstock_rate_limit_degraded_total",
                "Requests over a limit that were answered in a cheaper mode",
                &["endpoint", "type"],
            )?,
            abuse: r.counters(
                "rate_limit_abuse_detected_total",
                "Clients found out, by what they did",
                &["pattern"],
            )?,
            flagged: r
                .gauge("penstock_rate_limit_flagged", "Clients on the list of those found out")?,
            pauses: r.counter(
                "penstock_refusals_paused_total",
                "Refusals that waited because their client asked on and on",
            )?,
            paused: r.gauge("penstock_refusals_paused", "Refusals that wait now")?,
            decisions: By::ALL.map(|by| decisions.with_label_values(&[by.name()])),
            clients: r
                .gauge("penstock_rate_limit_clients", "Clients whose requests are counted")?,
            clients_max: r
                .gauge("penstock_rate_limit_clients_max", "Clients that can be counted at once")?,
            fallback: r.gauge(
                "penstock_rate_limit_fallback",
                "1 while limits are decided with this instance's share because Redis is silent",
            )?,
            fallbacks: r.counter(
                "penstock_rate_limit_fallback_total",
                "Requests decided with this instance's share",
            )?,
            instances: r
                .gauge("penstock_fleet_instances", "Instances of the fleet, as last counted")?,
            redis_connected: r.gauge("penstock_redis_connected", "1 while connected to Redis")?,
            redis_calls: r.counters(
                "penstock_redis_calls_total",
                "Calls to Redis by what became of them",
                &["outcome"],
            )?,
            breakers: r.gauges(
                "penstock_breaker_state",
                "0 closed, 1 open, 2 half-open",
                &["dependency"],
            )?,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// The first event of a label would be invisible to `increase()` if the label came with it.
    fn begin_at_zero(&self) {
        for endpoint in Endpoint::ALL {
            for kind in ["address", "key", "global", "abuse"] {
                self.hits.with_label_values(&[endpoint.name(), kind]);
                self.shadow_hits.with_label_values(&[endpoint.name(), kind]);
            }
            for kind in ["address", "key", "global"] {
                self.degraded.with_label_values(&[endpoint.name(), kind]);
            }
        }
        for pattern in Pattern::ALL {
            self.abuse.with_label_values(&[pattern.name()]);
        }
    }

    /// Counts what the rules said about a request, and how long that took.
    pub fn judged(&self, endpoint: Endpoint, verdicts: &[Verdict], took: Duration) {
        for verdict in verdicts {
            let counter = match verdict.outcome {
                Outcome::Admitted => continue,
                Outcome::Refused => &self.hits,
                Outcome::WouldRefuse => &self.shadow_hits,
                Outcome::Degraded => &self.degraded,
            };
            counter.with_label_values(&[endpoint.name(), verdict.scope]).inc();
        }
        // The slowest of those who took part.
        let slowest = [By::Share, By::Redis, By::Refusal, By::Lease, By::Local]
            .into_iter()
            .find(|by| verdicts.iter().any(|verdict| verdict.by == *by));
        if let Some(by) = slowest {
            self.decisions[by as usize].observe(took.as_secs_f64());
            if by == By::Share {
                self.fallbacks.inc();
            }
        }
    }

    /// Counts a client that was found out.
    pub fn found(&self, pattern: Pattern) {
        self.abuse.with_label_values(&[pattern.name()]).inc();
    }

    /// Counts a refusal that waits.
    pub fn paused(&self) {
        self.pauses.inc();
    }

    /// Counts a request that a penalty refuses, or would refuse.
    pub fn penalised(&self, endpoint: Endpoint, shadow: bool) {
        let counter = if shadow { &self.shadow_hits } else { &self.hits };
        counter.with_label_values(&[endpoint.name(), "abuse"]).inc();
    }

    /// Sets what is only looked at.
    pub fn refresh(&self, app: &App) {
        self.paused.set(app.admission.paused() as i64);
        self.flagged.set(app.admission.flagged_count() as i64);
        self.clients.set(app.admission.clients() as i64);
        self.clients_max.set(app.policies.current().limits.max_clients as i64);
        let shared = app.admission.shared();
        self.fallback.set(shared.is_some_and(Shared::is_alone).into());
        self.instances.set(shared.map_or(1, Shared::instances).into());
        // Servers of the application come and go with their names.
        self.breakers.reset();
        crate::breakers::each(app, |breaker| {
            self.breakers.with_label_values(&[breaker.name()]).set(breaker.state() as i64);
        });
        let Some(link) = &app.link else { return };
        let status = link.status();
        self.redis_connected.set(status.server.is_some().into());
        for (outcome, count) in status.calls {
            let counter = self.redis_calls.with_label_values(&[outcome]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}
