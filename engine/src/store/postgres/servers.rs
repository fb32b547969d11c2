//! The primary and its replicas: who is asked what.
//!
//! A read may say since when what it sees must be known to be there ("the user's last click was stored at this
//! moment"); replicas that are not that far are passed over. So a reader sees its own writes, and what is remembered
//! of a read never is older than the change that made it necessary.

use super::connect::Connector;
use super::fault::Fault;
use super::observe::{FellBack, Observe};
use super::query::{Params, Query};
use super::server::{Server, ServerStatus};
use crate::resilience::breaker::State;
use arc_swap::ArcSwap;
use penstock_config::bootstrap::{Database, ReadFrom};
use penstock_config::clock::SharedClock;
use penstock_config::policy::BreakerPolicy;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Row;

/// Replicas whose lag differs by less are equally far.
const SAME_LAG: Duration = Duration::from_millis(250);
/// Between two rounds over the servers.
const BACKOFF: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];

/// See the module.
pub(super) struct Servers {
    pub primary: Arc<Server>,
    pub replicas: Vec<Arc<Server>>,
    pub settings: Arc<Database>,
    pub breaker: ArcSwap<BreakerPolicy>,
    pub clock: SharedClock,
    pub observer: Arc<dyn Observe>,
    turn: AtomicUsize,
    /// What is not known to be new enough was read, because nothing else was to be had.
    pub read_too_old: AtomicBool,
}

impl Servers {
    pub fn new(
        settings: &Arc<Database>,
        instance: &str,
        breaker: BreakerPolicy,
        clock: &SharedClock,
        observer: &Arc<dyn Observe>,
    ) -> io::Result<Self> {
        let server = |role: &str, url, writes| {
            let connector = Connector::new(settings.clone(), url, instance, writes)?;
            let server =
                Server::new(role, connector, settings.pool, clock.clone(), observer.clone());
            io::Result::Ok(Arc::new(server))
        };
        let replicas = settings.replicas.iter().map(|url| server("replica", url.clone(), false));
        Ok(Self {
            primary: server("database", settings.url.clone(), true)?,
            replicas: replicas.collect::<Result<_, _>>()?,
            settings: settings.clone(),
            breaker: ArcSwap::from_pointee(breaker),
            clock: clock.clone(),
            observer: observer.clone(),
            turn: AtomicUsize::new(0),
            read_too_old: AtomicBool::new(false),
        })
    }

    /// Whether requests are sent to this replica now.
    pub fn in_rotation(&self, replica: &Server) -> bool {
        // Without a primary nothing is known of how far it is, and nothing else is to be had.
        let alone = !self.primary.health().well;
        let health = replica.health();
        health.well
            && health.lag.map_or(alone, |lag| lag <= self.settings.max_lag)
            && !replica.breaker.is_shut(self.clock.now())
    }

    /// Who is asked, in this order: replicas that are well and new enough, the primary, and if that is gone the other
    /// replicas that are well: what they do not have is lost when one of them takes over, and what is seen until the
    /// primary is back is forgotten then ([`super::listen::Heard::Missed`]).
    fn to_read_from(&self, since: Option<Instant>) -> Vec<&Arc<Server>> {
        let well: Vec<&Arc<Server>> =
            self.replicas.iter().filter(|replica| self.in_rotation(replica)).collect();
        let new_enough = |replica: &Arc<Server>| {
            since.is_none_or(|since| replica.health().has_all_until.is_some_and(|has| has >= since))
        };
        let (mut chosen, too_old): (Vec<&Arc<Server>>, Vec<&Arc<Server>>) =
            well.iter().copied().partition(|replica| new_enough(replica));
        if chosen.is_empty() && !self.replicas.is_empty() {
            let why = if well.is_empty() { FellBack::NoneWell } else { FellBack::TooOld };
            self.observer.fell_back(why);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if !chosen.is_empty() {
            let by = turn % chosen.len();
            chosen.rotate_left(by);
        }
        if self.settings.read_from == ReadFrom::LeastLag {
            // Stable: those that are equal stay in turn.
            chosen.sort_by_key(|replica| {
                let lag = replica.health().lag.unwrap_or_default();
                let status = replica.pool.status();
                (lag.as_millis() / SAME_LAG.as_millis(), status.active + status.waiting)
            });
        }
        chosen.push(&self.primary);
        chosen.extend(too_old);
        chosen
    }

    /// Reads, from another server where one fails, and again where all do.
    pub async fn read(
        &self,
        query: &Query,
        params: &Params,
        since: Option<Instant>,
    ) -> Result<Vec<Row>, Fault> {
        let policy = self.breaker.load();
        let mut last = None;
        for pause in BACKOFF.iter().map(Some).chain([None]) {
            let mut after_primary = false;
            for server in self.to_read_from(since) {
                match self.timed(server, &policy, query, params).await {
                    Ok(rows) => {
                        let unknown = || server.health().lag.is_none();
                        let is_primary = Arc::ptr_eq(server, &self.primary);
                        if !is_primary && (after_primary || unknown()) {
                            self.read_too_old.store(true, Ordering::Release);
                        }
                        return Ok(rows);
                    }
                    Err(fault) if fault.may_be_tried_again() => {
                        self.observer.retried(query.name);
                        last = Some(fault);
                    }
                    Err(fault) => return Err(fault),
                }
                after_primary |= Arc::ptr_eq(server, &self.primary);
            }
            match pause {
                // What the breaker refuses now it refuses in a moment, too.
                Some(pause) if !matches!(last, Some(Fault::Open(_))) => {
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                }
                _ => break,
            }
        }
        let last = last.expect("the primary was asked");
        if matches!(last, Fault::Open(_)) {
            return self.read_all_the_same(query, params, since).await.unwrap_or(Err(last));
        }
        Err(last)
    }

    /// Reads past a breaker that is trying a server again, when that server answers the watch and nobody else can be
    /// asked. `None`: there is no such server.
    async fn read_all_the_same(
        &self,
        query: &Query,
        params: &Params,
        since: Option<Instant>,
    ) -> Option<Result<Vec<Row>, Fault>> {
        let trying = |server: &&Arc<Server>| {
            server.health().well && server.breaker.state() == State::HalfOpen
        };
        let server = self.to_read_from(since).into_iter().find(trying)?;
        let (result, took) = server.ask_all_the_same(query, params).await;
        self.tell(server, query, &result, took);
        Some(result)
    }

    /// Asks the primary, once: a write may have happened although nobody said so.
    pub async fn write(&self, query: &Query, params: &Params) -> Result<Vec<Row>, Fault> {
        self.timed(&self.primary, &self.breaker.load(), query, params).await
    }

    /// One attempt at one server, told to whoever counts.
    pub async fn timed(
        &self,
        server: &Arc<Server>,
        policy: &BreakerPolicy,
        query: &Query,
        params: &Params,
    ) -> Result<Vec<Row>, Fault> {
        let (result, took) = server.ask(policy, query, params).await;
        self.tell(server, query, &result, took);
        result
    }

    /// Whoever counts is told of one attempt that took so long; `None`: it did not come to asking.
    fn tell(
        &self,
        server: &Arc<Server>,
        query: &Query,
        result: &Result<Vec<Row>, Fault>,
        took: Option<Duration>,
    ) {
        let Some(took) = took else { return };
        self.observer.queried(query.name, took);
        if took >= self.settings.slow_query {
            self.observer.slow(query.name);
            super::slow::log(server, query, result.as_ref().map_or(0, Vec::len), took);
        }
    }

    /// The primary first.
    pub fn status(&self) -> Vec<ServerStatus> {
        let well = self.primary.health().well;
        let primary = self.primary.status(well);
        let replicas =
            self.replicas.iter().map(|replica| replica.status(self.in_rotation(replica)));
        std::iter::once(primary).chain(replicas).collect()
    }
}
