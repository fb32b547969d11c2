//! The lists in Redis, followed.
//!
//! Looked at when the process starts, when somebody changed them, and every few seconds in case a message was
//! missed; read when they are not what was read last, and once a minute whatever they seem to be. While Redis is silent the last entries stay in force, over a restart too: they are kept in the
//! data folder, or a denied client would only have to wait until Redis is away.

use crate::app::App;
use async_trait::async_trait;
use penstock_config::disk;
use penstock_config::policy::Entry;
use penstock_engine::redis::{Revision, SharedLists, Trouble};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks without a message.
const LOOK: Duration = Duration::from_secs(5);
/// After so long the lists are read although nothing seems to have changed: a Redis that lost data may count
/// to the same revision again.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// Name of the file in the data folder.
const FILE: &str = "lists-shared.json";

/// The entries of Redis as this instance last heard of them.
#[derive(Debug, Default)]
pub struct SharedEntries {
    entries: Mutex<Arc<[Entry]>>,
    /// When Redis last said that they are so.
    confirmed: Mutex<Option<Instant>>,
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
        Self { entries: Mutex::new(entries.into()), file, ..Self::default() }
    }

    /// They.
    pub fn get(&self) -> Arc<[Entry]> {
        self.lock().clone()
    }

    /// How long ago Redis last said, or was asked when it did, that they are so; since `started` where it never has.
    pub fn age(&self, started: Instant, now: Instant) -> Duration {
        now.saturating_duration_since(self.confirmed().unwrap_or(started))
    }

    /// Redis was asked at `when`, and they were so.
    fn confirm(&self, when: Instant) {
        *self.confirmed() = Some(when);
    }

    fn confirmed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what Redis has now; `false`: nothing changed.
    pub(crate) fn set(&self, entries: Vec<Entry>) -> bool {
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
        disk::replace(&self.file, &serde_json::to_vec(entries)?)
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

    /// `known`: which state was read last, and when.
    async fn look(&self, known: &mut Option<(Revision, Instant)>) {
        let app = &self.app;
        let policy = app.policies.current();
        let now = app.clock.now();
        let recent = known.filter(|(_, at)| now.saturating_duration_since(*at) < READ_AGAIN);
        let recent = recent.map(|(revision, _)| revision);
        let kept = app.shared_entries.get();
        match self.lists.read_since(&policy.resilience, recent, &kept).await {
            Ok(Some(read)) if read.revision.is_first() && !kept.is_empty() => {
                // Redis came back without its data. Nobody took these entries off.
                tracing::warn!(entries = kept.len(), "Redis lost the lists; they are put back");
                if let Err(trouble) = self.lists.restore(&policy.resilience, &kept).await {
                    tracing::warn!(%trouble, "the lists cannot be put back yet");
                }
                return;
            }
            Ok(Some(read)) => {
                let count = read.entries.len();
                if app.shared_entries.set(read.entries) {
                    app.lists.refresh(|| app.policies.current(), &app.shared_entries);
                    tracing::info!(entries = count, "the lists in Redis changed");
                }
                *known = Some((read.revision, now));
            }
            Ok(None) => {}
            // No connection is told of by the link.
            Err(Trouble::NotConnected { .. }) => return,
            Err(trouble) => {
                tracing::warn!(%trouble, "the lists in Redis cannot be read; those read last stay in force");
                return;
            }
        }
        app.shared_entries.confirm(now);
    }
}

#[async_trait]
impl BackgroundService for ListsFollower {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut changes = self.lists.board().changes();
        let mut known = None;
        loop {
            self.look(&mut known).await;
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
    fn their_age_is_that_of_the_last_word_of_redis() {
        let shared = SharedEntries::default();
        let started = penstock_config::clock::now();
        let at = |seconds| started + Duration::from_secs(seconds);
        let age = |now| shared.age(started, at(now)).as_secs();
        assert_eq!((age(0), age(7)), (0, 7));
        shared.confirm(at(5));
        assert_eq!((age(5), age(65)), (0, 60));
        assert_eq!(age(4), 0);
    }

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
