//! What the link knows of itself: the connection, the counters, the last trouble.

use super::Trouble;
use super::dial::Connection;
use super::keeper::Doubt;
use crate::resilience::Breaker;
use crate::resilience::breaker;
use arc_swap::ArcSwapOption;
use penstock_config::clock::SharedClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Calls by what became of them, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answered.
    pub ok: AtomicU64,
    /// The connection broke or Redis could not work.
    pub failed: AtomicU64,
    /// Not answered within the deadline.
    pub late: AtomicU64,
    /// Not asked: the breaker was open.
    pub open: AtomicU64,
    /// Not asked: no connection.
    pub not_connected: AtomicU64,
    /// Refused by Redis, by our fault.
    pub rejected: AtomicU64,
    /// Connections made.
    pub connects: AtomicU64,
}

impl Counters {
    /// Each with its name, as a metric's label.
    pub fn by_result(&self) -> [(&'static str, u64); 6] {
        [
            ("ok", self.ok.load(Ordering::Relaxed)),
            ("failed", self.failed.load(Ordering::Relaxed)),
            ("late", self.late.load(Ordering::Relaxed)),
            ("open", self.open.load(Ordering::Relaxed)),
            ("not_connected", self.not_connected.load(Ordering::Relaxed)),
            ("rejected", self.rejected.load(Ordering::Relaxed)),
        ]
    }

    pub(super) fn count<T>(&self, result: &Result<T, Trouble>) {
        let counter = match result {
            Ok(_) => &self.ok,
            Err(Trouble::Failed(_)) => &self.failed,
            Err(Trouble::Late { .. }) => &self.late,
            Err(Trouble::Open { .. }) => &self.open,
            Err(Trouble::NotConnected { .. }) => &self.not_connected,
            Err(Trouble::Rejected(_)) => &self.rejected,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The link as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `single`, `sentinel` or `cluster`.
    pub kind: &'static str,
    /// The configured URL without its password.
    pub address: String,
    /// The server in use, `host:port`; of a cluster `the cluster`. `None`: not connected.
    pub server: Option<String>,
    /// The breaker.
    pub breaker: breaker::Status,
    /// Calls by result.
    pub calls: [(&'static str, u64); 6],
    /// Connections made.
    pub connects: u64,
    /// The last thing that went wrong, whenever that was.
    pub last_error: Option<String>,
}

/// A connection and where it leads.
pub(super) struct Connected {
    pub connection: Connection,
    pub server: String,
}

/// What callers and the keeper share.
pub(super) struct Shared {
    pub clock: SharedClock,
    pub breaker: Breaker,
    pub counters: Counters,
    pub connected: ArcSwapOption<Connected>,
    /// The first attempt to connect is over: from here on having no connection is Redis's fault.
    pub tried: AtomicBool,
    /// Somebody had trouble with the connection.
    pub doubt: Arc<Doubt>,
    last_error: ArcSwapOption<Arc<str>>,
}

impl Shared {
    pub fn new(clock: SharedClock) -> Self {
        Self {
            breaker: Breaker::new("redis", clock.now()),
            clock,
            counters: Counters::default(),
            connected: ArcSwapOption::empty(),
            tried: AtomicBool::new(false),
            doubt: Arc::default(),
            last_error: ArcSwapOption::empty(),
        }
    }

    pub fn connected(&self, connection: Connection, server: &str) {
        let connected = Connected { connection, server: server.to_owned() };
        self.connected.store(Some(Arc::new(connected)));
        self.counters.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// There was a connection.
    pub fn disconnected(&self) -> bool {
        self.connected.swap(None).is_some()
    }

    pub fn failed(&self, why: impl Into<Arc<str>>) {
        self.last_error.store(Some(Arc::new(why.into())));
    }

    pub fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.load().as_deref().map(Arc::clone)
    }
}
