//! One server: its pool, its breaker, and how well it is.

use super::connect::{Connector, STATEMENT};
use super::fault::Fault;
use super::observe::Observe;
use super::pool::{Pool, PoolStatus};
use super::query::{Params, Query};
use super::session::Session;
use crate::resilience::Breaker;
use deadpool_postgres::Object;
use penstock_config::bootstrap::PoolSettings;
use penstock_config::clock::SharedClock;
use penstock_config::policy::BreakerPolicy;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

/// A server ends its queries itself after [`STATEMENT`]; one that says nothing for longer is frozen, or out of reach.
const ANSWER: Duration = STATEMENT.saturating_add(Duration::from_millis(500));

/// What the watch found out about a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// It answers, and what it has is the primary's.
    pub well: bool,
    /// Why not.
    pub why: Option<String>,
    /// Everything that was stored before this moment is here; of the primary that is always now.
    pub has_all_until: Option<Instant>,
    /// How far it is behind.
    pub lag: Option<Duration>,
}

/// A server as the status page has it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ServerStatus {
    /// Host and port, or several of which one takes writes.
    pub name: String,
    /// It is asked.
    pub in_rotation: bool,
    /// Why not, or what was wrong last.
    pub why: Option<String>,
    /// Seconds behind the primary; of the primary itself 0, `None`: not known.
    pub lag_seconds: Option<f64>,
    /// State of the breaker in front of it.
    pub breaker: &'static str,
    /// Its connections.
    pub pool: PoolStatus,
}

/// See the module.
pub(super) struct Server {
    pub name: String,
    pub connector: Connector,
    pub pool: Pool,
    pub breaker: Breaker,
    health: Mutex<Health>,
    clock: SharedClock,
    /// For the watch alone: a pool that is busy says nothing about how well a server is.
    apart: tokio::sync::Mutex<Option<Session>>,
}

impl Server {
    pub fn new(
        role: &str,
        connector: Connector,
        pool: PoolSettings,
        clock: SharedClock,
        observer: Arc<dyn Observe>,
    ) -> Self {
        let nodes: Vec<String> = connector.url.nodes.iter().map(ToString::to_string).collect();
        let name = nodes.join(",");
        Self {
            breaker: Breaker::new(format!("{role}:{name}"), clock.now()),
            pool: Pool::new(connector.clone(), pool, clock.clone(), observer),
            name,
            connector,
            health: Mutex::default(),
            clock,
            apart: tokio::sync::Mutex::default(),
        }
    }

    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One attempt at a query, through the breaker; and how long the server took, if it was asked at all.
    pub async fn ask(
        &self,
        policy: &BreakerPolicy,
        query: &Query,
        params: &Params,
    ) -> (Result<Vec<Row>, Fault>, Option<Duration>) {
        let mut took = None;
        let asked = self.attempt(query, params, &mut took);
        let called = self.breaker.call(policy, &*self.clock, asked, Fault::is_the_servers).await;
        let result = called.unwrap_or_else(|open| Err(Fault::Open(open)));
        (result, took)
    }

    /// The same past the breaker, for when there is nobody else and the watch says that it answers.
    pub async fn ask_all_the_same(
        &self,
        query: &Query,
        params: &Params,
    ) -> (Result<Vec<Row>, Fault>, Option<Duration>) {
        let mut took = None;
        let result = self.attempt(query, params, &mut took).await;
        (result, took)
    }

    async fn attempt(
        &self,
        query: &Query,
        params: &Params,
        took: &mut Option<Duration>,
    ) -> Result<Vec<Row>, Fault> {
        let asked = async {
            let client = self.pool.get().await?;
            let began = self.clock.now();
            let answer = async {
                let statement = client.prepare_cached(query.sql).await?;
                let params: Vec<_> = params.iter().map(|param| &**param as _).collect();
                client.query(&statement, &params).await
            };
            let answer = tokio::time::timeout(ANSWER, answer).await;
            *took = Some(self.clock.now().saturating_duration_since(began));
            match answer {
                Ok(Err(error)) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
                    drop(Object::take(client));
                    Err(Fault::Query(error))
                }
                Ok(rows) => Ok(rows?),
                Err(_) => {
                    // Whoever had it next would wait for the same answer.
                    drop(Object::take(client));
                    Err(Fault::Late(ANSWER))
                }
            }
        };
        let result = asked.await;
        if let Err(fault) = &result
            && fault.kind() == super::fault::Kind::ReadOnly
        {
            self.pool.forget();
        }
        result
    }

    /// Asks for one row over a connection that nobody else has, and waits `patience` for it once there is one.
    pub async fn ask_apart(&self, query: &Query, patience: Duration) -> Result<Row, Fault> {
        // Put back only when it is as it was: a question without an answer leaves it in between.
        let mut apart = self.apart.lock().await;
        let session = match apart.take().filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => {
                let session = Session::open(&self.connector).await?;
                // It takes connections (again): what its breaker has against it is of before.
                self.breaker.try_soon(self.clock.now());
                session
            }
        };
        let asked = tokio::time::timeout(patience, session.client.query_one(query.sql, &[])).await;
        let row = asked.map_err(|_| Fault::Late(patience))??;
        *apart = Some(session);
        Ok(row)
    }

    pub fn status(&self, in_rotation: bool) -> ServerStatus {
        let health = self.health().clone();
        ServerStatus {
            name: self.name.clone(),
            in_rotation,
            why: health.why,
            lag_seconds: health.lag.map(|lag| lag.as_secs_f64()),
            breaker: self.breaker.state().name(),
            pool: self.pool.status(),
        }
    }
}
