//! Shipping: batches in the order of acknowledgement, again and again until the sink has them.
//!
//! Events leave the spool only after the sink said that they are durable there. Dying in between ships them twice.

use super::file::failed;
use super::leave::{How, Leave};
use super::row::{self, COLUMNS, Row, cost};
use super::writer::Change;
use super::{Spool, StoreError};
use crate::catalog::Event;
use crate::store::lite::ended;
use crate::store::lite::file::unavailable;
use futures::future::BoxFuture;
use rand::Rng;
use std::convert::Infallible;
use std::fs::{File, TryLockError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Pauses after a failed shipment, doubling; up to half of one is left out by chance.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
/// How often it is asked whether another process has stopped shipping.
const TURN: Duration = Duration::from_millis(200);
/// Looks for something to ship at least this often, told or not.
const IDLE: Duration = Duration::from_secs(1);
/// Rows that leave in one transaction: appends wait for it.
const AT_ONCE: usize = 1_000;

/// Where events are shipped to.
pub trait Sink: Send + Sync {
    /// Stores events so that each `event_id` counts once. `Ok` only when they are durable there.
    ///
    /// [`StoreError::Format`] means that at least one of them can never be stored, and that none was: they are tried
    /// in smaller batches until it is alone, and that one is set aside. Any other error is tried again for ever.
    fn ship<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Told of events that the sink has, before they leave the spool.
pub type Shipped<'a> = &'a (dyn Fn(&[Event]) + Send + Sync);

/// What is at the front of the queue.
struct Front {
    rows: Vec<Row>,
    /// Numbers of rows whose sum is wrong.
    damaged: Vec<i64>,
}

/// This process ships, until it is dropped.
struct Turn<'a> {
    spool: &'a Spool,
    _lock: File,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.spool.board.shipping.store(false, Ordering::Release);
    }
}

impl Spool {
    /// Ships to `sink` until it is dropped, which may happen at any point. While another process ships, waits until
    /// that one has stopped. Needs a tokio runtime.
    pub async fn ship_to(self: Arc<Self>, sink: &dyn Sink, shipped: Shipped<'_>) -> Infallible {
        let _turn = self.turn().await;
        let mut pause = SHORTEST;
        loop {
            match self.ship_once(sink, shipped).await {
                Ok(some) => {
                    pause = SHORTEST;
                    self.board.trouble(None);
                    if some == 0 {
                        let news = self.board.news.notified();
                        let _ = tokio::time::timeout(IDLE, news).await;
                    }
                }
                Err(error) => {
                    // Said when it begins, and no more than every few seconds after that.
                    tracing::warn!(%error, waiting = self.status().waiting, "events were not shipped");
                    self.board.trouble(Some(error.to_string()));
                    let by_chance = rand::rng().random_range(0.5..=1.0);
                    tokio::time::sleep(pause.mul_f64(by_chance)).await;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }

    /// Waits until no other process ships.
    async fn turn(&self) -> Turn<'_> {
        loop {
            match self.try_turn() {
                Ok(Some(turn)) => return turn,
                Ok(None) => {}
                Err(error) => self.board.trouble(Some(error.to_string())),
            }
            tokio::time::sleep(TURN).await;
        }
    }

    fn try_turn(&self) -> Result<Option<Turn<'_>>, StoreError> {
        let name = self.path.with_extension("shipping");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&name)
            .map_err(|e| unavailable("create", &name, &e))?;
        match lock.try_lock() {
            Ok(()) => {
                self.board.shipping.store(true, Ordering::Release);
                Ok(Some(Turn { spool: self, _lock: lock }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(unavailable("lock", &name, &e)),
        }
    }

    /// Ships the front of the queue, one batch; how many rows left it. Whoever calls this sees to it that nobody
    /// else ships.
    pub(super) async fn ship_once(
        self: &Arc<Self>,
        sink: &dyn Sink,
        shipped: Shipped<'_>,
    ) -> Result<usize, StoreError> {
        let Front { rows, damaged } = self.front().await?;
        let (seqs, events): (Vec<i64>, Vec<Event>) =
            rows.into_iter().map(|row| (row.seq, row.event)).unzip();
        let mut at = 0;
        let mut size = events.len();
        while at < events.len() {
            let to = (at + size).min(events.len());
            let (part, numbers) = (&events[at..to], &seqs[at..to]);
            let how = match self.offer(sink, part).await {
                Ok(()) => {
                    shipped(part);
                    How::Shipped
                }
                Err(StoreError::Format(_)) if part.len() > 1 => {
                    size = part.len() / 2;
                    continue;
                }
                Err(StoreError::Format(reason)) => {
                    tracing::error!(event_id = part[0].event_id, reason, "an event is set aside");
                    How::Refused(reason)
                }
                Err(error) => return Err(error),
            };
            let rows = numbers.iter().copied().zip(part.iter().map(cost)).collect();
            self.leave(rows, how).await?;
            at = to;
            size = events.len() - at;
        }
        let left = at + damaged.len();
        if !damaged.is_empty() {
            tracing::error!(rows = damaged.len(), "rows of the spool are damaged and set aside");
            self.leave(damaged.into_iter().map(|seq| (seq, 0)).collect(), How::Damaged).await?;
        }
        Ok(left)
    }

    async fn offer(&self, sink: &dyn Sink, part: &[Event]) -> Result<(), StoreError> {
        let wait = self.settings.ship_timeout;
        match tokio::time::timeout(wait, sink.ship(part)).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Unavailable(format!("not shipped within {wait:?}"))),
        }
    }

    async fn leave(&self, rows: Vec<(i64, u64)>, how: How) -> Result<(), StoreError> {
        for part in rows.chunks(AT_ONCE) {
            let (reply, answer) = oneshot::channel();
            let leave = Leave { rows: part.to_vec(), how: how.clone() };
            self.writer.push(Change::Leave { leave, reply })?;
            answer.await.map_err(|_| ended("writer"))??;
        }
        Ok(())
    }

    async fn front(self: &Arc<Self>) -> Result<Front, StoreError> {
        let spool = Arc::clone(self);
        let read = move || {
            let side = spool.side.lock().unwrap_or_else(PoisonError::into_inner);
            let mut front = Front { rows: Vec::new(), damaged: Vec::new() };
            let mut statement = side
                .prepare_cached(&format!("SELECT {COLUMNS} FROM waiting ORDER BY seq LIMIT ?1"))?;
            let mut rows = statement.query([spool.settings.batch.max(1) as i64])?;
            while let Some(found) = rows.next()? {
                match row::read(found)? {
                    (_, Some(row)) => front.rows.push(row),
                    (seq, None) => front.damaged.push(seq),
                }
            }
            Ok(front)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| StoreError::Unavailable(format!("reading what waits: {e}")))?
            .map_err(failed("reading what waits"))
    }
}
