//! Metrics of the shop's database: its pools, its queries, its replicas.

use super::metrics::Registering;
use super::spool::{SpoolFigures, SpoolMetrics};
use crate::app::App;
use penstock_engine::store::DatabaseStatus;
use penstock_engine::store::postgres::{FellBack, Observe, PoolStatus, ServerStatus};
use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};
use std::time::Duration;

/// Handles of everything that is counted about the database.
#[derive(Clone)]
pub struct DatabaseMetrics {
    connections: IntGaugeVec,
    queries: HistogramVec,
    slow: IntCounterVec,
    waits: Histogram,
    refused: IntCounter,
    retried: IntCounterVec,
    at_primary: IntCounterVec,
    lag: GaugeVec,
    in_rotation: IntGaugeVec,
    operations: HistogramVec,
    spool: SpoolMetrics,
}

impl DatabaseMetrics {
    pub(super) fn register(r: &Registering<'_>) -> prometheus::Result<Self> {
        let metrics = Self {
            connections: r.gauges(
                "db_connection_pool_size",
                "Connections to all servers by what they do, and callers that wait for one",
                &["state"],
            )?,
            queries: r.histograms(
                "db_query_duration_seconds",
                "From sending a query to its last row, by what it is for",
                &["query_type"],
            )?,
            slow: r.counters(
                "db_slow_queries_total",
                "Queries that took longer than database.slow_query_ms",
                &["query_type"],
            )?,
            waits: r
                .histograms(
                    "db_pool_wait_seconds",
                    "From asking for a connection to having it",
                    &[],
                )?
                .with_label_values::<&str>(&[]),
            refused: r.counter(
                "db_pool_refused_total",
                "Callers that had no connection, because all were in use",
            )?,
            retried: r.counters(
                "db_read_retries_total",
                "Reads that failed at one server and were tried at another, or again",
                &["query_type"],
            )?,
            at_primary: r.counters(
                "db_reads_at_primary_total",
                "Reads that went to the primary although there are replicas",
                &["reason"],
            )?,
            lag: r.float_gauges(
                "db_replication_lag_seconds",
                "How far a replica is behind what is stored",
                &["replica"],
            )?,
            in_rotation: r.gauges(
                "db_server_in_rotation",
                "1 where a server is asked",
                &["server", "role"],
            )?,
            operations: r.histograms(
                "async_operation_duration_seconds",
                "What requests wait for beside ranking: from its start to its end",
                &["operation_type"],
            )?,
            spool: SpoolMetrics::register(r)?,
        };
        // The first event of a label would be invisible to `increase()` if the label came with it.
        for query in ["products", "recent_events"] {
            metrics.slow.with_label_values(&[query]);
            metrics.retried.with_label_values(&[query]);
        }
        for why in [FellBack::NoneWell, FellBack::TooOld] {
            metrics.at_primary.with_label_values(&[why.name()]);
        }
        for state in ["active", "idle", "waiting"] {
            metrics.connections.with_label_values(&[state]);
        }
        Ok(metrics)
    }

    /// Sets what is only looked at.
    pub fn refresh(&self, app: &App) {
        let database = app.engine.get().ok().and_then(|engine| engine.database());
        let Some(DatabaseStatus { primary, replicas, spool, .. }) = database else { return };
        if let Some(spool) = spool {
            self.set_spool(SpoolFigures {
                events: spool.waiting,
                bytes: spool.bytes,
                bytes_max: app.settings.database.as_ref().map_or(0, |it| it.spool_bytes),
                oldest_seconds: spool.oldest_seconds.unwrap_or(0),
                shipped: spool.shipped,
                refused: spool.refused,
                damaged: spool.damaged,
                full: spool.full,
            });
        }
        let mut sum = PoolStatus::default();
        for server in std::iter::once(&primary).chain(&replicas) {
            sum.active += server.pool.active;
            sum.idle += server.pool.idle;
            sum.waiting += server.pool.waiting;
        }
        let counts = [("active", sum.active), ("idle", sum.idle), ("waiting", sum.waiting)];
        for (state, count) in counts {
            self.connections.with_label_values(&[state]).set(count as i64);
        }
        self.rotation(&primary, "primary");
        for replica in &replicas {
            self.rotation(replica, "replica");
            // Nothing known is as bad as can be; an alert must see it.
            let lag = replica.lag_seconds.unwrap_or(f64::INFINITY);
            self.lag.with_label_values(&[&replica.name]).set(lag);
        }
    }

    fn rotation(&self, server: &ServerStatus, role: &str) {
        self.in_rotation.with_label_values(&[&server.name, role]).set(server.in_rotation.into());
    }

    /// Sets what is known of the spool.
    pub fn set_spool(&self, figures: SpoolFigures) {
        self.spool.set(figures);
    }

    /// Notes how long something took that a request waited for.
    pub fn operation(&self, name: &'static str, took: Duration) {
        self.operations.with_label_values(&[name]).observe(took.as_secs_f64());
    }
}

impl Observe for DatabaseMetrics {
    fn queried(&self, query: &'static str, took: Duration) {
        self.queries.with_label_values(&[query]).observe(took.as_secs_f64());
        self.operation("database_query", took);
    }

    fn slow(&self, query: &'static str) {
        self.slow.with_label_values(&[query]).inc();
    }

    fn waited(&self, took: Duration) {
        self.waits.observe(took.as_secs_f64());
        self.operation("database_connection", took);
    }

    fn refused(&self) {
        self.refused.inc();
    }

    fn fell_back(&self, why: FellBack) {
        self.at_primary.with_label_values(&[why.name()]).inc();
    }

    fn retried(&self, query: &'static str) {
        self.retried.with_label_values(&[query]).inc();
    }
}
