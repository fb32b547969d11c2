//! The latest decisions, kept in memory for whoever holds a trace id.

use super::Decision;
use crate::telemetry::traceparent::TraceId;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A fixed number of slots, overwritten in turn. A writer locks one slot for the time of a pointer
/// exchange, so requests do not wait for each other; memory is bounded by slots times the bounds of
/// a record.
pub struct Ring {
    slots: Box<[Mutex<Option<Arc<Decision>>>]>,
    next: AtomicUsize,
}

impl Ring {
    /// Keeps the latest `capacity` decisions, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: (0..capacity.max(1)).map(|_| Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Puts a decision in the place of the oldest.
    pub fn push(&self, decision: Arc<Decision>) {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let oldest =
            self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner).replace(decision);
        drop(oldest);
    }

    /// The decisions of a trace that are still kept, oldest first. Several requests can share a
    /// trace.
    pub fn find(&self, trace: TraceId) -> Vec<Arc<Decision>> {
        let mut found: Vec<_> = self
            .slots
            .iter()
            .filter_map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .filter(|decision| decision.trace.trace_id == trace)
            .collect();
        found.sort_by_key(|decision| decision.began_unix_micros);
        found
    }
}
