//! Prometheus metrics, all in the `prometheus` crate's default registry.
//!
//! Every label has a bounded set of values: endpoints and modes are enums, servers come from the
//! configuration, statuses are numbers. Nothing a client writes becomes a label.

use super::caches::{Named, PageMetrics};
use super::database::DatabaseMetrics;
use super::layers::LayerMetrics;
use super::limits::LimitMetrics;
use super::load::LoadMetrics;
use super::process::Process;
use crate::decision::{Decision, PAUSE};
use crate::identity::keys::Why;
use crate::route::Endpoint;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Upper bounds of durations in seconds, from 100 µs: a cached or keyword-only answer takes a few
/// hundred microseconds, and pass-through can take as long as the application does.
const SECONDS: [f64; 17] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 30.0,
];

/// Handles of everything that is counted.
pub struct Metrics {
    requests: IntCounterVec,
    durations: [Histogram; Endpoint::ALL.len()],
    stages: HistogramVec,
    modes: IntCounterVec,
    caches: IntCounterVec,
    problems: IntCounterVec,
    /// Requests being answered.
    pub in_flight: IntGauge,
    /// Open connections on the public listeners.
    pub connections: IntGauge,
    /// Connections closed because their headers did not come in time.
    pub slow_headers: IntCounter,
    /// Admission.
    pub limits: LimitMetrics,
    /// What is remembered of our own answers.
    pub layers: LayerMetrics,
    /// Pages of the application that are kept.
    pub pages: PageMetrics,
    /// The ladder.
    pub load: LoadMetrics,
    /// The shop's database.
    pub database: DatabaseMetrics,
    /// API keys in the file.
    pub keys: IntGauge,
    /// Lines of the keys' file that cannot be used.
    pub keys_problems: IntGauge,
    /// 1 while the keys' file cannot be read.
    pub keys_unreadable: IntGauge,
    /// Keys that were presented and are not good, by why.
    pub keys_refused: IntCounterVec,
    /// Entries of the allow list in force.
    pub whitelist_size: IntGauge,
    /// Entries of the deny list in force.
    pub blacklist_size: IntGauge,
    /// Seconds since Redis last confirmed the lists; 0 without Redis.
    pub lists_age: Gauge,
    /// Requests the deny list refused, by what it knew them by.
    pub denied: IntCounterVec,
    /// Connections closed for their PROXY header, by why.
    pub proxy_headers_refused: IntCounterVec,
    /// Handlers that panicked.
    pub panics: IntCounter,
    /// Access log lines that found the queue full.
    pub access_log_dropped: IntCounter,
    /// Spans that could not be queued or delivered.
    pub spans_dropped: IntCounter,
    /// Attempts per server and outcome.
    pub upstream_attempts: IntCounterVec,
    /// From being asked to the header of the response, per server.
    pub upstream_answered: HistogramVec,
    /// 1 where a server is believed to be up.
    pub upstream_healthy: IntGaugeVec,
    /// Events that were stored, and those whose id was known.
    pub events: IntCounterVec,
    /// 1, labelled with the version in force.
    pub policy_info: IntGaugeVec,
    /// Seconds since the policy in force was accepted.
    pub policy_age: Gauge,
    /// Policy versions that were refused.
    pub policy_rejected: IntGauge,
    /// 1 when the engine can answer.
    pub engine_ready: IntGauge,
    /// Products in the snapshot.
    pub engine_products: IntGauge,
    /// Revision of the catalogue in the snapshot.
    pub engine_catalog_revision: IntGauge,
    /// Ranking work that waits for a thread.
    pub engine_waiting: IntGauge,
    /// 1, labelled with the index in force.
    pub engine_index_info: IntGaugeVec,
    registry: Registry,
}

impl Metrics {
    /// Registers everything with `registry`. Fails when it is done twice with the same one.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let r = Registering(registry);
        r.keep(Process::new()?)?;
        let build =
            r.gauges("penstock_build_info", "1, labelled with the version", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let durations = r.histograms(
            "penstock_request_duration_seconds",
            "From the request's header read to the response sent",
            &["route"],
        )?;
        let named = Named::register(&r)?;
        let metrics = Self {
            requests: r.counters(
                "penstock_requests_total",
                "Requests answered; status 0: the client was gone",
                &["route", "status"],
            )?,
            durations: Endpoint::ALL
                .map(|endpoint| durations.with_label_values(&[endpoint.name()])),
            stages: r.histograms(
                "penstock_stage_duration_seconds",
                "Time in one stage of a request",
                &["stage"],
            )?,
            modes: r.counters("penstock_mode_total", "Answers per mode", &["mode"])?,
            caches: r.counters(
                "penstock_answers_total",
                "Answers by where they came from, as X-Cache tells",
                &["route", "cache"],
            )?,
            problems: r.counters("penstock_problems_total", "Problems answered", &["problem"])?,
            in_flight: r.gauge("penstock_in_flight", "Requests being answered")?,
            connections: r.gauge("penstock_connections", "Open public connections")?,
            slow_headers: r.counter(
                "penstock_slow_headers_total",
                "Connections closed because a request's headers did not come in time",
            )?,
            limits: LimitMetrics::register(&r)?,
            layers: LayerMetrics::register(&r, &named)?,
            load: LoadMetrics::register(&r)?,
            database: DatabaseMetrics::register(&r)?,
            pages: PageMetrics::new(named),
            keys: r.gauge("penstock_keys", "API keys, revoked and expired ones too")?,
            keys_problems: r
                .gauge("penstock_keys_problems", "Lines of keys.jsonl that cannot be used")?,
            keys_unreadable: r
                .gauge("penstock_keys_unreadable", "1 while keys.jsonl cannot be read")?,
            keys_refused: r.counters(
                "penstock_keys_refused_total",
                "API keys presented that are not good",
                &["why"],
            )?,
            whitelist_size: r
                .gauge("rate_limit_whitelist_size", "Entries of the allow list in force")?,
            blacklist_size: r
                .gauge("rate_limit_blacklist_size", "Entries of the deny list in force")?,
            lists_age: r.float_gauge(
                "penstock_lists_age_seconds",
                "Seconds since Redis last confirmed the allow and deny lists",
            )?,
            denied: r.counters(
                "penstock_denied_total",
                "Requests refused by the deny list",
                &["by"],
            )?,
            proxy_headers_refused: r.counters(
                "penstock_proxy_headers_refused_total",
                "Connections closed because of their PROXY header",
                &["why"],
            )?,
            panics: r.counter("penstock_panics_total", "Handlers that panicked")?,
            access_log_dropped: r.counter(
                "penstock_access_log_dropped_total",
                "Access log lines that found the queue full",
            )?,
            spans_dropped: r.counter(
                "penstock_spans_dropped_total",
                "Spans that could not be queued or delivered",
            )?,
            upstream_attempts: r.counters(
                "penstock_upstream_attempts_total",
                "Attempts to pass a request through",
                &["server", "outcome"],
            )?,
            upstream_answered: r.histograms(
                "penstock_upstream_answer_seconds",
                "From being asked to the header of the response",
                &["server"],
            )?,
            upstream_healthy: r.gauges(
                "penstock_upstream_healthy",
                "1 where a server is believed to be up",
                &["server"],
            )?,
            events: r.counters("penstock_events_total", "Events taken", &["outcome"])?,
            policy_info: r.gauges(
                "penstock_policy_info",
                "1, labelled with the version in force",
                &["version"],
            )?,
            policy_age: r.float_gauge(
                "penstock_policy_age_seconds",
                "Seconds since the policy in force was accepted",
            )?,
            policy_rejected: r.gauge("penstock_policy_rejected", "Policy versions refused")?,
            engine_ready: r.gauge("penstock_engine_ready", "1 when the engine can answer")?,
            engine_products: r.gauge("penstock_engine_products", "Products in the snapshot")?,
            engine_catalog_revision: r
                .gauge("penstock_engine_catalog_revision", "Revision of the catalogue")?,
            engine_waiting: r
                .gauge("penstock_engine_waiting", "Ranking work that waits for a thread")?,
            engine_index_info: r.gauges(
                "penstock_engine_index_info",
                "1, labelled with the index in force",
                &["version"],
            )?,
            registry: registry.clone(),
        };
        // The first event of a label would be invisible to `increase()` if the label came with it.
        for why in Why::ALL {
            metrics.keys_refused.with_label_values(&[why.name()]);
        }
        for by in ["address", "key"] {
            metrics.denied.with_label_values(&[by]);
        }
        Ok(metrics)
    }

    /// Counts a finished request.
    pub fn record(&self, decision: &Decision) {
        let mut digits = [0; 5];
        let status = status_text(decision.status, &mut digits);
        self.requests.with_label_values(&[decision.route.name(), status]).inc();
        let paused = decision.stages.iter().filter(|stage| stage.name == PAUSE);
        let worked =
            decision.duration_micros.saturating_sub(paused.map(|pause| pause.micros).sum());
        self.durations[decision.route as usize].observe(seconds(worked));
        for stage in &decision.stages {
            self.stages.with_label_values(&[stage.name]).observe(seconds(stage.micros));
        }
        self.pages.record(decision);
        if decision.problem.is_none() {
            let cache = decision.cache.outcome.name();
            self.caches.with_label_values(&[decision.route.name(), cache]).inc();
        }
        if let Some(mode) = decision.mode {
            self.modes.with_label_values(&[mode.name()]).inc();
        }
        if let Some(problem) = decision.problem {
            self.problems.with_label_values(&[problem]).inc();
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        use prometheus::Encoder;
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) =
            prometheus::TextEncoder::new().encode(&self.registry.gather(), &mut text)
        {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// A status as a label, without allocating.
fn status_text(status: u16, digits: &mut [u8; 5]) -> &str {
    use std::io::Write;
    let mut rest = digits.as_mut_slice();
    let before = rest.len();
    // Five digits hold every u16.
    let _ = write!(rest, "{status}");
    let written = before - rest.len();
    std::str::from_utf8(&digits[..written]).unwrap_or("0")
}

/// Makes metrics and keeps them in a registry.
pub(super) struct Registering<'r>(&'r Registry);

impl Registering<'_> {
    pub(super) fn keep<C: prometheus::core::Collector + 'static>(
        &self,
        c: C,
    ) -> prometheus::Result<()> {
        self.0.register(Box::new(c))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let it = IntCounter::new(name, help)?;
        self.keep(it.clone())?;
        Ok(it)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let it = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.keep(it.clone())?;
        Ok(it)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let it = IntGauge::new(name, help)?;
        self.keep(it.clone())?;
        Ok(it)
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let it = Gauge::new(name, help)?;
        self.keep(it.clone())?;
        Ok(it)
    }

    pub(super) fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<GaugeVec> {
        let it = GaugeVec::new(Opts::new(name, help), labels)?;
        self.keep(it.clone())?;
        Ok(it)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        let it = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.keep(it.clone())?;
        Ok(it)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        self.histograms_of(name, help, labels, &SECONDS)
    }

    pub(super) fn histograms_of(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let it = HistogramVec::new(opts, labels)?;
        self.keep(it.clone())?;
        Ok(it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::decision;

    #[test]
    fn a_decision_becomes_metrics() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut record = decision();
        record.status = 503;
        record.problem = Some("not-ready");
        record.mode = Some(penstock_engine::resilience::Mode::Popular);
        record.stage("engine", std::time::Duration::from_micros(150));
        metrics.record(&record);
        let text = String::from_utf8(metrics.text()).unwrap();
        for line in [
            r#"penstock_requests_total{route="search",status="503"} 1"#,
            r#"penstock_request_duration_seconds_bucket{route="search",le="0.0001"} 0"#,
            r#"penstock_request_duration_seconds_bucket{route="search",le="0.0002"} 1"#,
            r#"penstock_stage_duration_seconds_count{stage="engine"} 1"#,
            r#"penstock_mode_total{mode="popular"} 1"#,
            r#"penstock_problems_total{problem="not-ready"} 1"#,
            r#"penstock_build_info{version="0.1.0"} 1"#,
            "process_open_fds",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn statuses_as_labels() {
        for status in [0, 7, 99, 200, u16::MAX] {
            assert_eq!(status_text(status, &mut [0; 5]), status.to_string());
        }
    }
}
