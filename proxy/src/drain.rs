//! Leaving without breaking a promise: how far the process is on its way out, and who is still
//! being served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shared by listeners, readiness and the shutdown.
#[derive(Debug, Default)]
pub struct Drain {
    draining: AtomicBool,
    leaving: AtomicBool,
    connections: AtomicUsize,
}

impl Drain {
    /// From now on: not ready, and connections end with their next answer.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.hand_over();
    }

    /// From now on connections end with their next answer, which says so: a client that is told
    /// opens its next one to the new process, one that is cut off loses what it had just sent.
    pub fn hand_over(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Whether connections end with their next answer.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Whether [`Drain::begin`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Open public connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Counts a connection until the guard is dropped.
    pub fn connection(self: &std::sync::Arc<Self>) -> Connection {
        self.connections.fetch_add(1, Ordering::SeqCst);
        Connection(self.clone())
    }
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub struct Connection(std::sync::Arc<Drain>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
