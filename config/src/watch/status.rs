//! What a watcher has done, for status pages and heartbeats.

use crate::problem::{Problem, Problems};
use crate::units::rfc3339;
use serde::{Deserialize, Serialize};

/// Where the policy in force was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The policy folder.
    Folder,
    /// The copy of the last accepted set, because the folder was broken at start.
    LastGoodCopy,
}

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatcherKind {
    /// By events of the file system, and by a slow poll.
    Events,
    /// By the poll alone.
    Polling,
}

/// A set of files that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Version of the refused contents; empty when the folder could not be read.
    pub version: String,
    /// When, RFC 3339.
    pub when: String,
    /// Everything that is wrong with it.
    pub problems: Problems,
}

/// How often the folder had something new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// Sets that came into force after the first.
    pub accepted: u64,
    /// Sets that were refused.
    pub rejected: u64,
}

/// What a watcher runs (ACK) and what it refused (NACK).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyStatus {
    /// Version in force.
    pub version: String,
    /// In force since, RFC 3339.
    pub since: String,
    /// Seconds it has been in force.
    pub age_seconds: u64,
    /// Where it was read.
    pub source: Source,
    /// The folder holds exactly the version in force.
    pub in_sync: bool,
    /// Seconds since the folder was last looked at.
    pub checked_seconds_ago: u64,
    /// Doubtful things in the version in force.
    pub warnings: Vec<Problem>,
    /// The newest refused set since the start, even if it was repaired since.
    pub last_rejected: Option<Rejected>,
    /// Counts since the start.
    pub reloads: Reloads,
    /// How changes are noticed.
    pub watcher: WatcherKind,
}

/// The same with plain times, as the watcher keeps it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) version: String,
    pub(super) since_micros: i64,
    pub(super) checked_micros: i64,
    pub(super) source: Source,
    pub(super) in_sync: bool,
    pub(super) warnings: Vec<Problem>,
    pub(super) last_rejected: Option<Rejected>,
    pub(super) reloads: Reloads,
    pub(super) watcher: WatcherKind,
}

impl Record {
    pub(super) fn status(&self, now_micros: i64) -> PolicyStatus {
        let seconds = |since: i64| u64::try_from((now_micros - since) / 1_000_000).unwrap_or(0);
        PolicyStatus {
            version: self.version.clone(),
            since: rfc3339(self.since_micros),
            age_seconds: seconds(self.since_micros),
            source: self.source,
            in_sync: self.in_sync,
            checked_seconds_ago: seconds(self.checked_micros),
            warnings: self.warnings.clone(),
            last_rejected: self.last_rejected.clone(),
            reloads: self.reloads,
            watcher: self.watcher,
        }
    }
}
