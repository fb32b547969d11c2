//! The embedded store: one SQLite file in the data folder, shared by every process of an install.
//!
//! - Write-ahead log with `synchronous = FULL`: what was acknowledged survives `kill -9` and a loss
//!   of power; readers and the writer do not wait for each other.
//! - Requests never touch SQLite on their own thread. Reads go to a few reader threads, events to
//!   one writer thread that commits all waiting calls together ([`writer`]); both queues are
//!   bounded, and a full one is [`StoreError::Busy`].
//! - Imports stage their rows in a file of their own and merge them in one transaction
//!   ([`staging`], [`import`]).
//! - What changed since a revision is known from a bounded list of changes that is written with them
//!   ([`changes`]).
//! - A file that is not ours, is damaged, or was made by a newer version is refused and left as it
//!   is ([`file`]).

mod bulk;
mod changes;
mod file;
mod import;
#[cfg(feature = "train")]
mod jobs;
mod popularity;
mod reader;
mod rows;
mod staging;
#[cfg(test)]
mod tests;
mod writer;

use crate::catalog::{Event, Product, UserEvent};
use crate::features::Entity;
use crate::store::lite::{ended, failed};
use crate::store::{Store, StoreError};
use futures::future::BoxFuture;
use penstock_config::clock::SharedClock;
use reader::{Read, Readers};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use writer::Writer;

/// The store's file inside a data folder.
pub const FILE_NAME: &str = "store.sqlite";

/// Bounds of a store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that read for requests.
    pub readers: usize,
    /// Calls that may wait, for the readers together and for the writer.
    pub queue: usize,
    /// How long a write waits for another process's write.
    pub busy_timeout: Duration,
    /// The file may not grow beyond this many pages of 4096 bytes; `None`: until the disk is full.
    pub max_pages: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            readers: 2,
            queue: 1024,
            // Longer than the merge of a few million rows; callers have deadlines of their own.
            busy_timeout: Duration::from_secs(30),
            max_pages: None,
        }
    }
}

/// The embedded store.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    settings: Settings,
    clock: SharedClock,
    readers: Readers,
    writer: Writer,
    /// New events stored through this handle.
    appended: Arc<AtomicU64>,
    // For the small questions of jobs and pollers; never used by requests.
    side: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the store at `path` (usually `<data folder>/store.sqlite`), creating the folder and an
    /// empty store when there is none. Removes what imports of dead processes left behind.
    ///
    /// Errors: [`StoreError::Format`] when the file is not a store of this version (the file is not
    /// touched), [`StoreError::Unavailable`] when the folder cannot be written.
    pub fn open(path: impl AsRef<Path>, clock: SharedClock) -> Result<Self, StoreError> {
        Self::open_with(path, clock, Settings::default())
    }

    /// The store of a data folder.
    pub fn in_folder(folder: impl AsRef<Path>, clock: SharedClock) -> Result<Self, StoreError> {
        Self::open(folder.as_ref().join(FILE_NAME), clock)
    }

    /// As [`open`](Self::open), with other bounds.
    pub fn open_with(
        path: impl AsRef<Path>,
        clock: SharedClock,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let path = file::prepare(path.as_ref())?;
        staging::sweep(&path)?;
        let side = file::connect(&path, &settings)?;
        let readers = Readers::start(&path, &settings, &clock)?;
        let appended: Arc<AtomicU64> = Arc::default();
        let writer = Writer::start(&path, &settings, &clock, appended.clone())?;
        Ok(Self { path, settings, clock, readers, writer, appended, side: Mutex::new(side) })
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn side(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held leaves a connection that is still sound.
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn products(
        &self,
        ids: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Product>>, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.readers.ask(Read::Products { ids, reply })?;
            answer.await.map_err(|_| ended("reader"))?
        })
    }

    fn recent_events(
        &self,
        user_id: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserEvent>, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.readers.ask(Read::RecentEvents { user_id, limit, reply })?;
            answer.await.map_err(|_| ended("reader"))?
        })
    }

    fn features(
        &self,
        entity: Entity,
        id: String,
        names: Vec<&'static str>,
    ) -> BoxFuture<'_, Result<Vec<Option<serde_json::Value>>, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.readers.ask(Read::Features { entity, id, names, reply })?;
            answer.await.map_err(|_| ended("reader"))?
        })
    }

    fn append_events(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.writer.append(events, reply)?;
            answer.await.map_err(|_| ended("writer"))?
        })
    }
}
