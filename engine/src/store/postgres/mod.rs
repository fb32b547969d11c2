//! The shop's PostgreSQL: one server for writes, replicas for reads.
//!
//! - Requests never wait for a server that is known to be down: each has a breaker, and what it cannot answer another
//!   one does ([`servers`]); who is well, and how far behind, is looked at every second ([`watch`]).
//! - Connections are kept in bounded pools ([`pool`]) on threads of the store's own, so that callers may be on any
//!   runtime, and one that stops waiting leaves no connection half used.
//! - The schema is in the binary ([`migrate`]); every query that serving asks is in [`query`].
//! - What others do to the tables is heard ([`listen`]), from other instances and from any SQL client.

mod bulk;
mod changes;
mod connect;
mod fault;
mod import;
#[cfg(feature = "train")]
mod jobs;
mod listen;
mod migrate;
mod moments;
mod observe;
mod outbox;
mod partitions;
mod pool;
mod popularity;
mod query;
mod requests;
mod rows;
mod server;
mod servers;
mod session;
mod ship;
mod slow;
mod watch;

pub use migrate::{Migrated, migrate};
pub use observe::{FellBack, Observe, Unobserved};
pub use pool::PoolStatus;
pub use query::statements;
pub use server::ServerStatus;

use crate::catalog::Event;
use crate::store::{StoreError, UsersChanged};
use fault::Fault;
use futures::future::BoxFuture;
use listen::Heard;
use moments::Moments;
use outbox::Outbox;
use penstock_config::bootstrap::Database;
use penstock_config::clock::SharedClock;
use penstock_config::policy::Policy;
use query::{Params, Query};
use servers::Servers;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::Row;

/// Threads that talk to the servers; they hardly compute.
const THREADS: usize = 2;
/// How the operators' command line is named at the servers.
const CONTROL: &str = "penstock:control";
/// What is known of how far a replica is may be so old.
const LOOKED: Duration = Duration::from_secs(5);
/// How long opening waits for the database.
const OPENING: Duration = Duration::from_secs(10);

type Hook<T> = Mutex<Vec<Arc<dyn Fn(T) + Send + Sync>>>;

/// See the module.
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// Events wait in it until the primary has them; `None`: who stores events waits for the primary.
    outbox: Option<Arc<Outbox>>,
    /// `Some` until the store is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

/// What the store's tasks share.
struct Shared {
    servers: Arc<Servers>,
    moments: Moments,
    application: String,
    /// The latest revision of the catalogue that was seen.
    revision: AtomicU64,
    /// Up to this revision what changed is not known for certain: it was read from a primary that another one replaced.
    doubted: AtomicU64,
    /// How often it was heard that popularity was made.
    popularity_news: AtomicU64,
    wake: Hook<()>,
    users: Hook<UsersChanged>,
    recovered: Hook<()>,
}

impl PostgresStore {
    /// Connects, and looks whether the schema is there. `instance` names this process at the server. Events are
    /// acknowledged when they are in the spool in the folder `spool`, and shipped from there.
    ///
    /// Errors: [`StoreError::Unavailable`] when no server that takes writes answers or the schema is not there (with
    /// what to do), [`StoreError::Format`] when it is of a newer version.
    pub fn open(
        settings: Database,
        instance: &str,
        spool: Option<&Path>,
        clock: SharedClock,
        observer: Arc<dyn Observe>,
    ) -> Result<Self, StoreError> {
        let unavailable =
            |error: std::io::Error| StoreError::Unavailable(format!("database: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("database")
            .enable_all()
            .build()
            .map_err(unavailable)?;
        let outbox = spool.map(|folder| {
            Arc::new(Outbox::open(folder.to_owned(), settings.spool_bytes, clock.clone()))
        });
        // An upgrade has two processes of one name, and what the other one stores must be heard.
        let name = match instance {
            "control" => CONTROL.to_owned(),
            _ => format!("penstock:{instance}#{:04x}", rand::random::<u16>()),
        };
        let breaker = Policy::default().resilience.breaker;
        let settings = Arc::new(settings);
        let servers = Servers::new(&settings, &name, breaker, &clock, &observer);
        let shared = Arc::new(Shared {
            servers: Arc::new(servers.map_err(unavailable)?),
            moments: Moments::new(settings.max_lag + LOOKED),
            application: name.clone(),
            revision: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            popularity_news: AtomicU64::new(0),
            wake: Mutex::default(),
            users: Mutex::default(),
            recovered: Mutex::default(),
        });
        let store = Self { shared: shared.clone(), outbox: outbox.clone(), runtime: Some(runtime) };
        store.wait(async move { shared.verify().await })?;
        store.wait(watch::look_first(store.shared.servers.clone()));
        let runtime = store.runtime();
        let watched = store.shared.clone();
        let recovered = move |what| match what {
            watch::Found::Recovered => call(&watched.recovered, ()),
            // What was read meanwhile may be older than what had been heard of.
            watch::Found::PrimaryAgain => watched.hear(Heard::Missed),
            watch::Found::AnotherPrimary => watched.another_primary(),
        };
        runtime.spawn(watch::watch(store.shared.servers.clone(), recovered));
        if let Some(outbox) = outbox {
            runtime.spawn(outbox.ship(store.shared.clone()));
        }
        let hearing = store.shared.clone();
        let connector = store.shared.servers.primary.connector.clone();
        runtime.spawn(listen::listen(connector, move |heard| hearing.hear(heard)));
        Ok(store)
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().expect("there until the store is dropped")
    }

    /// Does `work` on the store's threads. It is done to its end, also when the caller stops waiting.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let trace_id = crate::trace::current();
        self.runtime().spawn(crate::trace::within(trace_id, work))
    }

    /// The same for a caller whose thread may block, on a runtime or not.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        self.spawn(async move {
            let _ = done.send(work.await);
        });
        result.recv().expect("work on the store's threads does not panic")
    }

    fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        query: &'static Query,
        params: Params,
        since: impl FnOnce(&Moments) -> Option<Instant> + Send + 'static,
        made: impl FnOnce(Vec<Row>) -> Result<T, tokio_postgres::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let shared = self.shared.clone();
        let reading = self.spawn(async move {
            let since = since(&shared.moments);
            let rows = shared.servers.read(query, &params, since).await;
            rows.and_then(|rows| made(rows).map_err(Fault::from)).map_err(|fault| fault.told(doing))
        });
        Box::pin(async move { reading.await.unwrap_or_else(|_| Err(ended(doing))) })
    }
}

impl Shared {
    /// Some server answers and has the schema. Any will do: replicas answer while nobody takes writes.
    async fn verify(&self) -> Result<(), StoreError> {
        let servers = &self.servers;
        let mut last = None;
        for server in std::iter::once(&servers.primary).chain(&servers.replicas) {
            let verifying = async {
                let client = server.pool.get().await;
                let client = client.map_err(|fault| fault.told("connecting to the database"))?;
                migrate::verify(&client).await
            };
            let verified = tokio::time::timeout(OPENING, verifying).await.unwrap_or_else(|_| {
                let (name, why) = (&server.name, format!("no answer within {OPENING:?}"));
                Err(StoreError::Unavailable(format!("connecting to the database {name}: {why}")))
            });
            match verified {
                Ok(()) => return Ok(()),
                Err(StoreError::Unavailable(why)) => last = last.or(Some(why)),
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable(last.expect("the primary was asked")))
    }

    fn hear(&self, heard: Heard) {
        let now = self.servers.clock.now();
        match heard {
            Heard::Products => {
                self.moments.note_products(now);
                call(&self.wake, ());
            }
            Heard::Popularity => {
                self.popularity_news.fetch_add(1, Ordering::AcqRel);
                call(&self.wake, ());
            }
            // Noted when they were stored, which is earlier.
            Heard::Users { by, .. } if by == self.application => {}
            Heard::Users { users, by } => {
                match &users {
                    Some(users) => {
                        self.moments.note_users(users.iter().map(String::as_str), now);
                    }
                    None => self.moments.note_everybody(now),
                }
                // Commands store events, too, and tell nobody.
                let by_the_fleet = by.starts_with("penstock:") && by != CONTROL;
                call(&self.users, UsersChanged { users, by_the_fleet });
            }
            Heard::Missed => {
                self.moments.note_everybody(now);
                self.moments.note_products(now);
                self.popularity_news.fetch_add(1, Ordering::AcqRel);
                // Told, not only noted: nobody knows whether anybody was there to tell the fleet.
                call(&self.users, UsersChanged { users: None, by_the_fleet: false });
            }
        }
    }

    /// A failover may have lost what was committed last, and given its revisions to something else since.
    fn another_primary(&self) {
        let seen = self.revision.load(Ordering::Acquire);
        self.doubted.fetch_max(seen, Ordering::AcqRel);
        self.hear(Heard::Missed);
        self.hear(Heard::Products);
    }

    /// Stores events at the primary; may be repeated.
    async fn store_events(&self, events: &[Event]) -> Result<Vec<bool>, Fault> {
        let servers = &self.servers;
        let began = servers.clock.now();
        let storing = async {
            let mut client = servers.primary.pool.get().await?;
            match tokio::time::timeout(ship::PATIENCE, ship::store(&mut client, events)).await {
                Ok(stored) => stored,
                Err(_) => {
                    drop(deadpool_postgres::Object::take(client));
                    Err(Fault::Late(ship::PATIENCE))
                }
            }
        };
        let policy = servers.breaker.load();
        let its_fault = Fault::is_the_servers;
        let called = servers.primary.breaker.call(&policy, &*servers.clock, storing, its_fault);
        let stored = called.await.map_err(Fault::Open)?;
        let now = servers.clock.now();
        servers.observer.queried("append_events", now.saturating_duration_since(began));
        match &stored {
            Ok(_) => {
                let mut users: Vec<String> =
                    events.iter().map(|event| event.user_id.clone()).collect();
                users.sort_unstable();
                users.dedup();
                self.moments.note_users(users.iter().map(String::as_str), now);
                call(&self.users, UsersChanged { users: Some(users), by_the_fleet: false });
            }
            Err(fault) if fault.kind() == fault::Kind::ReadOnly => servers.primary.pool.forget(),
            Err(_) => {}
        }
        stored
    }
}

fn call<T: Clone>(hooks: &Hook<T>, what: T) {
    let hooks = lock(hooks).clone();
    hooks.iter().for_each(|hook| hook(what.clone()));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended(doing: &str) -> StoreError {
    StoreError::Unavailable(format!("{doing}: the store is being closed"))
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads is not allowed where a store may be dropped: on a runtime.
            runtime.shutdown_background();
        }
    }
}
