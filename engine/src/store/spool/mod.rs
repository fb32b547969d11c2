//! The spool: where events wait, safe on the local disk, until a remote store has them.
//!
//! An event that was acknowledged is not lost, whatever dies: it is in this file until the remote store said that it
//! is durable there. It may be shipped twice; its `event_id` makes it count once.
//!
//! - One SQLite file, `spool/spool.sqlite` in the data folder, with a write-ahead log and `synchronous = FULL`. One
//!   thread changes it, with one flush for all who wait ([`writer`]); one reads for requests ([`reader`]).
//! - Rows have a number in the order of acknowledgement and leave in that order ([`ship`], [`leave`]). What the sink
//!   never takes is set aside, and so is what is not any more what was stored.
//! - Several processes may have it open, as in an upgrade. All append; one ships, and holds a file lock for that.
//! - What waits is bounded, and so is the file: free pages are given back ([`leave`]). A reserve on the disk keeps
//!   shipping possible when the disk is full ([`reserve`]).
//! - A damaged file is moved aside whole, and what can be read of it goes on in a new one ([`open`], [`salvage`]).

mod board;
mod file;
mod leave;
mod open;
mod page;
mod reader;
mod reserve;
mod row;
mod salvage;
mod ship;
#[cfg(test)]
mod tests;
mod totals;
mod wal;
mod writer;

pub use file::{FILE_NAME, FOLDER};
pub use ship::Sink;

use crate::catalog::Event;
use crate::store::StoreError;
use crate::store::lite::ended;
use crate::store::lite::group::Group;
use board::Board;
use futures::future::BoxFuture;
use penstock_config::clock::SharedClock;
use reader::{Question, Reader};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use writer::Change;

/// Bounds of a spool.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What waits and what is set aside may take so much, indexes included; about what the file is large.
    pub max_bytes: u64,
    /// Events in one shipment.
    pub batch: usize,
    /// Calls that may wait, for the writer and for the reader each.
    pub queue: usize,
    /// How long a change waits for another process's.
    pub busy_timeout: Duration,
    /// A shipment that takes longer has failed.
    pub ship_timeout: Duration,
    /// Events that may be set aside; when there are more, shipping stands still.
    pub max_refused: u64,
    /// Space on the disk that is kept for shipping when the disk is full.
    pub reserve_bytes: u64,
    /// Looking for damage at the start ends after this time.
    pub check: Duration,
    /// The file may not grow beyond this many pages of 4096 bytes; `None`: until the disk is full.
    pub max_pages: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            batch: 5_000,
            queue: 1024,
            busy_timeout: Duration::from_secs(5),
            ship_timeout: Duration::from_secs(30),
            max_refused: 10_000,
            // More than a log and one group of events grow to between two checkpoints.
            reserve_bytes: 16 << 20,
            check: Duration::from_secs(5),
            max_pages: None,
        }
    }
}

/// A spool as operators see it. Counts are of the file, whichever process did it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// Events that wait to be shipped.
    pub waiting: u64,
    /// What they and those set aside take, indexes included.
    pub bytes: u64,
    /// How long the oldest has waited since it was received; `None`: nothing waits.
    pub oldest_seconds: Option<u64>,
    /// Events shipped, ever.
    pub shipped: u64,
    /// Events that the sink refused for good, ever. They are in the table `aside`.
    pub refused: u64,
    /// Events that were not what was stored or could not be read, ever. What is left of them is in the table `aside`
    /// or in a file that was moved away.
    pub damaged: u64,
    /// Files that were damaged and moved away, ever.
    pub damaged_files: u64,
    /// Events that are set aside now.
    pub set_aside: u64,
    /// The latest append was refused, because as much waits as may or the disk is full.
    pub full: bool,
    /// This process ships.
    pub shipping: bool,
    /// Why the latest shipment failed; `None` when it did not.
    pub last_error: Option<String>,
}

/// Where events wait for a remote store.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    settings: Settings,
    clock: SharedClock,
    board: Arc<Board>,
    writer: Group<Change>,
    reader: Reader,
    /// For shipping; never used by requests.
    side: std::sync::Mutex<rusqlite::Connection>,
    /// Held together with all other processes that have the spool open. Last, so that it outlives the connections.
    _users: File,
}

impl Spool {
    /// Opens the spool in `folder` (usually `<data folder>/spool`), creating the folder and an empty spool when
    /// there is none. A damaged one is moved aside and salvaged.
    ///
    /// Errors: [`StoreError::Format`] when the file is another program's or a newer version's (it is not touched),
    /// [`StoreError::Unavailable`] when the folder cannot be written, or when the spool is damaged and another
    /// process has it open.
    pub fn open(
        folder: impl AsRef<Path>,
        settings: Settings,
        clock: SharedClock,
    ) -> Result<Arc<Self>, StoreError> {
        let path = folder.as_ref().join(FILE_NAME);
        let open::Opened { path, users, side, totals } = open::open(&path, &settings, &*clock)?;
        let board = Arc::new(Board::new(totals));
        let writer = writer::start(&path, &settings, clock.clone(), board.clone())?;
        let reader = Reader::start(&path, &settings, clock.clone(), board.clone())?;
        let side = std::sync::Mutex::new(side);
        Ok(Arc::new(Self { path, settings, clock, board, writer, reader, side, _users: users }))
    }

    /// Where the spool is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes events: on disk when it returns, all of them or none. `true` where the event does not wait already;
    /// in the order given.
    ///
    /// Errors: [`StoreError::Full`] when there is no room, [`StoreError::Busy`] when too many calls wait,
    /// [`StoreError::Unavailable`] when the disk fails. Nothing is acknowledged then.
    pub fn append(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.writer.offer(Change::Append { events, reply })?;
            answer.await.map_err(|_| ended("writer"))?
        })
    }

    /// The user's events that wait to be shipped, newest first, at most `limit`. Who asks the spool first and the
    /// remote store second finds every event in one of them at least. Costs two loads when nothing waits. What
    /// another process appended is found after a twentieth of a second.
    pub fn waiting_of(
        &self,
        user_id: &str,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, StoreError>> {
        if limit == 0 || !self.board.perhaps(user_id) {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let user_id = user_id.to_owned();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.reader.ask(Question { user_id, limit, reply })?;
            answer.await.map_err(|_| ended("reader"))?
        })
    }

    /// How it is. Never touches the disk; what another process did is known after a twentieth of a second.
    pub fn status(&self) -> Status {
        let totals = *self.board.totals();
        let count = |number: i64| number.max(0).unsigned_abs();
        let age = || count(self.clock.unix_micros().saturating_sub(totals.oldest)) / 1_000_000;
        Status {
            waiting: count(totals.waiting),
            bytes: totals.held(),
            oldest_seconds: (totals.waiting > 0).then(age),
            shipped: count(totals.shipped),
            refused: count(totals.refused),
            damaged: count(totals.damaged),
            damaged_files: count(totals.files),
            set_aside: count(totals.aside),
            full: self.board.full.load(Ordering::Acquire),
            shipping: self.board.shipping.load(Ordering::Acquire),
            last_error: self.board.last_trouble(),
        }
    }
}
