//! The lists in Redis, followed.
//!
//! Read when the process starts, when somebody changed them, and every few seconds in case a message was
//! missed. While Redis is silent the last entries stay in force, over a restart too: they are kept in the
//! data folder, or a denied client would only have to wait until Redis is away.

use crate::access;
use crate::app::App;
use async_trait::async_trait;
use penstock_config::policy::Entry;
use penstock_engine::redis::SharedLists;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks without a message.
const LOOK: Duration = Duration::from_secs(5);
/// Name of the file in the data folder.
const FILE: &str = "lists-shared.json";

/// The entries of Redis as this instance last heard of them.
#[derive(Debug, Default)]
pub struct SharedEntries {
    entries: Mutex<Arc<[Entry]>>,
    file: PathBuf,
}

impl SharedEntries {
    /// Those that were kept in `data_dir`, where there is a Redis (without one nobody could change them); what cannot be read is logged and counts as none.
    pub fn kept_in(data_dir: &Path, with_redis: bool) -> Self {
        let file = data_dir.join(FILE);
        if !with_redis {
            return Self { file, ..Self::default() };
        }
        let entries: Vec<Entry> = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(file = %file.display(), %error, "the kept lists cannot be read");
                Vec::new()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(file = %file.display(), %error, "the kept lists cannot be read");
                }
                Vec::new()
            }
        };
        Self { entries: Mutex::new(entries.into()), file }
    }

    /// They.
    pub fn get(&self) -> Arc<[Entry]> {
        self.lock().clone()
    }

    /// Takes over what Redis has now; `false`: nothing changed.
    fn set(&self, entries: Vec<Entry>) -> bool {
        if **self.lock() == *entries {
            return false;
        }
        if let Err(error) = self.keep(&entries) {
            tracing::error!(file = %self.file.display(), %error, "the lists cannot be kept for a restart");
        }
        *self.lock() = entries.into();
        true
    }

    fn keep(&self, entries: &[Entry]) -> io::Result<()> {
        let temporary = self.file.with_extension("tmp");
        std::fs::write(&temporary, serde_json::to_vec(entries)?)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &self.file)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Entry]>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps them up to date.
pub struct ListsFollower {
    app: Arc<App>,
    lists: SharedLists,
}

impl ListsFollower {
    /// For `app`.
    pub fn new(app: Arc<App>, lists: SharedLists) -> Self {
        Self { app, lists }
    }

    async fn look(&self) {
        let policy = self.app.policies.current();
        // What is wrong with Redis is told by the link.
        let Ok(entries) = self.lists.entries(&policy.resilience).await else { return };
        let count = entries.len();
        if self.app.shared_entries.set(entries) {
            access::refresh(&self.app.lists, &self.app.policies, &self.app.shared_entries);
            tracing::info!(entries = count, "the lists in Redis changed");
        }
    }
}

#[async_trait]
impl BackgroundService for ListsFollower {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut changes = self.lists.board().changes();
        loop {
            self.look().await;
            tokio::select! {
                _ = shutdown.changed() => return,
                event = changes.next() => if event.is_none() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::policy::{List, Target};

    #[test]
    fn what_was_heard_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let shared = SharedEntries::kept_in(dir.path(), true);
        assert!(shared.get().is_empty());
        let target = Target::parse("203.0.113.0/24").unwrap();
        let entry = Entry { list: List::Deny, target, reason: "scraper".into(), expires: None };
        assert!(shared.set(vec![entry.clone()]));
        assert!(!shared.set(vec![entry.clone()]));
        assert_eq!(*SharedEntries::kept_in(dir.path(), true).get(), [entry]);
        std::fs::write(dir.path().join(FILE), b"[{").unwrap();
        assert!(SharedEntries::kept_in(dir.path(), true).get().is_empty());
    }
}
