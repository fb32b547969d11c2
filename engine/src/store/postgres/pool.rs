//! A bounded pool of connections to one server.
//!
//! The pool is deadpool's. What is added: callers that wait are bounded, too; connections on top of the usual number
//! are closed when they have had nothing to do for a while; none gets old.

use super::connect::Connector;
use super::fault::Fault;
use super::observe::Observe;
use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, RecyclingMethod, Runtime, Timeouts,
};
use futures::future::BoxFuture;
use penstock_config::bootstrap::PoolSettings;
use penstock_config::clock::SharedClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};

/// Connections on top that nobody needed for so long are closed.
const IDLE: Duration = Duration::from_secs(30);
/// Connecting, to all hosts of a URL.
const CREATE: Duration = Duration::from_secs(8);

/// Connections in use, idle, and callers that wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct PoolStatus {
    /// In use.
    pub active: usize,
    /// There, unused.
    pub idle: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// Most connections there may be.
    pub most: usize,
}

pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    settings: PoolSettings,
    clock: SharedClock,
    observer: Arc<dyn Observe>,
    /// Callers that have no connection yet: some get one at once, or one is being made for them.
    without: AtomicUsize,
}

/// One of those that have no connection yet.
struct Turn<'p> {
    all: &'p AtomicUsize,
    before: usize,
}

impl<'p> Turn<'p> {
    fn take(all: &'p AtomicUsize) -> Self {
        Self { all, before: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async move {
            let (client, driver) = self.open().await?;
            let driving = tokio::spawn(async move {
                if let Err(error) = driver.drive().await {
                    tracing::debug!(
                        error = super::fault::text(&error),
                        "a connection to the database broke"
                    );
                }
            });
            Ok((client, driving))
        })
    }
}

impl Pool {
    pub fn new(
        connector: Connector,
        settings: PoolSettings,
        clock: SharedClock,
        observer: Arc<dyn Observe>,
    ) -> Self {
        let manager = Manager::from_connect(
            Config::new(),
            connector,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let timeouts = Timeouts {
            wait: Some(settings.wait),
            create: Some(CREATE),
            recycle: Some(Duration::from_secs(1)),
        };
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(settings.connections + settings.overflow)
            .timeouts(timeouts)
            // The same few are used, so that the others are seen to be idle.
            .queue_mode(deadpool_postgres::QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("the runtime is given");
        Self { pool, settings, clock, observer, without: AtomicUsize::new(0) }
    }

    /// A connection, within the time a caller may wait. Called on the store's own runtime.
    pub async fn get(&self) -> Result<Object, Fault> {
        let turn = Turn::take(&self.without);
        if turn.before >= self.settings.max_waiting + self.most() {
            self.observer.refused();
            return Err(Fault::Crowded(turn.before));
        }
        let began = self.clock.now();
        let got = self.pool.get().await;
        self.observer.waited(self.clock.now().saturating_duration_since(began));
        let got = got.map_err(Fault::from);
        if let Err(fault) = &got
            && fault.kind() == super::fault::Kind::Busy
        {
            self.observer.refused();
        }
        got
    }

    fn most(&self) -> usize {
        self.settings.connections + self.settings.overflow
    }

    pub fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            active: status.size.saturating_sub(status.available),
            idle: status.available.min(status.size),
            waiting: self.without.load(Ordering::Relaxed),
            most: self.most(),
        }
    }

    /// Closes what is too old, and what is too many and idle.
    pub fn tidy(&self) {
        let mut surplus = self.pool.status().size.saturating_sub(self.settings.connections);
        let _ = self.pool.retain(|_, metrics| {
            let idle = surplus > 0 && metrics.last_used() >= IDLE;
            let keep = metrics.age() < self.settings.max_age && !idle;
            surplus = surplus.saturating_sub(usize::from(!keep));
            keep
        });
    }

    /// Closes every idle connection: the server at the other end is not the right one any more.
    pub fn forget(&self) {
        let _ = self.pool.retain(|_, _| false);
    }
}
