//! Metrics of the events that wait on disk for the database.

use super::metrics::Registering;
use prometheus::{IntCounterVec, IntGauge};
use std::sync::{Arc, Mutex, PoisonError};

/// How it stands with the spool. What is counted is counted since the spool was made, whichever process did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolFigures {
    /// Events that wait.
    pub events: u64,
    /// What they and those set aside take.
    pub bytes: u64,
    /// What they may take.
    pub bytes_max: u64,
    /// How long the oldest has waited; 0: nothing waits.
    pub oldest_seconds: u64,
    /// Events shipped.
    pub shipped: u64,
    /// Events that the database will never take.
    pub refused: u64,
    /// Events that are not what was stored any more.
    pub damaged: u64,
    /// The latest events found no room.
    pub full: bool,
}

/// Handles of everything that is counted about the spool.
#[derive(Clone)]
pub(super) struct SpoolMetrics {
    events: IntGauge,
    bytes: IntGauge,
    bytes_max: IntGauge,
    oldest: IntGauge,
    full: IntGauge,
    /// Without labels, but as families: a counter that showed 0 before the spool is open and then what earlier
    /// processes counted would look as if all of it happened now.
    shipped: IntCounterVec,
    refused: IntCounterVec,
    damaged: IntCounterVec,
    /// Two at once would both add the same difference.
    adding: Arc<Mutex<()>>,
}

impl SpoolMetrics {
    pub fn register(r: &Registering<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            events: r.gauge("event_spool_events", "Events on disk that wait for the database")?,
            bytes: r.gauge(
                "event_spool_bytes",
                "What waiting events and those set aside take on disk",
            )?,
            bytes_max: r.gauge(
                "event_spool_bytes_max",
                "What they may take (database.spool_bytes); 0: there is no spool, or it cannot be opened",
            )?,
            oldest: r.gauge(
                "event_spool_oldest_seconds",
                "How long the oldest waiting event has waited; 0: none waits",
            )?,
            full: r.gauge(
                "event_spool_full",
                "1 while the latest events found no room in the spool",
            )?,
            shipped: r.counters(
                "event_spool_shipped_total",
                "Events that went from the spool into the database",
                &[],
            )?,
            refused: r.counters(
                "event_spool_refused_total",
                "Events set aside because the database will never take them",
                &[],
            )?,
            damaged: r.counters(
                "event_spool_damaged_total",
                "Events of the spool that are not what was stored any more",
                &[],
            )?,
            adding: Arc::default(),
        })
    }

    pub fn set(&self, figures: SpoolFigures) {
        let number = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
        self.events.set(number(figures.events));
        self.bytes.set(number(figures.bytes));
        self.bytes_max.set(number(figures.bytes_max));
        self.oldest.set(number(figures.oldest_seconds));
        self.full.set(figures.full.into());
        let _one = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, total) in [
            (&self.shipped, figures.shipped),
            (&self.refused, figures.refused),
            (&self.damaged, figures.damaged),
        ] {
            let counter = counter.with_label_values::<&str>(&[]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use prometheus::Registry;

    #[test]
    fn counters_begin_with_what_was_counted_before_and_never_fall() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let text = || String::from_utf8(metrics.text()).unwrap();
        assert!(!text().contains("event_spool_refused_total"), "not before there is a spool");
        let figures = SpoolFigures { shipped: 7, refused: 2, events: 3, ..Default::default() };
        metrics.database.set_spool(figures);
        metrics.database.set_spool(SpoolFigures { shipped: 9, full: true, ..figures });
        metrics.database.set_spool(SpoolFigures { shipped: 8, full: true, ..figures });
        for line in [
            "event_spool_events 3\n",
            "event_spool_full 1\n",
            "event_spool_shipped_total 9\n",
            "event_spool_refused_total 2\n",
            "event_spool_damaged_total 0\n",
        ] {
            assert!(text().contains(line), "{line}\n{}", text());
        }
    }
}
