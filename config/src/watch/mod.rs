//! Files in, [`Policy`] out: the policy folder is watched and the newest valid set is in force.
//!
//! ```text
//!  event (inotify) ─┐
//!                   ├─► debounce ─► collect ─► gate ─► judge ─┬─ valid ──► swap, keep a copy
//!  slow poll ───────┘                 │                       └─ invalid ► nothing but a status
//!                                     └ same contents as now, or as refused: nothing
//! ```
//!
//! Events make it fast; the poll, which compares contents, makes it certain: on file systems
//! without events, after a lost event, after the folder itself was replaced.
//!
//! The copy of the last accepted set is what a process starts on when it finds a broken folder,
//! so the last good version stays in force across a restart.

mod burst;
mod first;
mod gate;
mod heartbeat;
mod kept;
mod run;
mod status;
mod targets;
#[cfg(test)]
mod tests;

pub use heartbeat::{Heartbeat, heartbeats};
pub use status::{PolicyStatus, Rejected, Reloads, Source, WatcherKind};

use crate::clock::SharedClock;
use crate::policy::Policy;
use crate::problem::Problems;
use arc_swap::ArcSwap;
use status::Record;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Called with every policy after it came into force, on the watcher's own thread.
pub type OnAccepted = Arc<dyn Fn(&Arc<Policy>) + Send + Sync>;

/// How a folder is watched.
#[derive(Clone)]
pub struct WatchOptions {
    /// Quiet time after an event before the folder is read: writers often write several times.
    pub debounce: Duration,
    /// Between two looks at the folder without any event.
    pub poll_interval: Duration,
    /// `false`: only the poll, as on a file system without events.
    pub use_events: bool,
    /// A known file that disappeared is taken for deleted after this long; before, for one that
    /// somebody is about to write again.
    pub vanish_grace: Duration,
    /// Name of this process in its heartbeat; fit for a file name.
    pub instance: String,
    /// Between two heartbeats without a change.
    pub heartbeat_interval: Duration,
    /// Folder for the copy of the last accepted set; `None`: `.accepted` in the policy folder.
    pub keep_in: Option<PathBuf>,
    /// Told of every policy after the first.
    pub on_accepted: Option<OnAccepted>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(40),
            poll_interval: Duration::from_secs(2),
            use_events: true,
            vanish_grace: Duration::from_secs(1),
            instance: "penstock".into(),
            heartbeat_interval: Duration::from_secs(10),
            keep_in: None,
            on_accepted: None,
        }
    }
}

impl std::fmt::Debug for WatchOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchOptions")
            .field("debounce", &self.debounce)
            .field("poll_interval", &self.poll_interval)
            .field("use_events", &self.use_events)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// What the watcher's thread writes and everybody reads.
#[derive(Debug)]
struct Shared {
    policy: ArcSwap<Policy>,
    record: Mutex<Record>,
    clock: SharedClock,
}

/// The policy in force, for request paths. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PolicyHandle(Arc<Shared>);

impl PolicyHandle {
    /// The policy in force now. A request takes it once and carries it to its end.
    pub fn current(&self) -> Arc<Policy> {
        self.0.policy.load_full()
    }

    /// What is in force since when, what was refused and why.
    pub fn status(&self) -> PolicyStatus {
        let record = self.0.record.lock();
        record.unwrap_or_else(PoisonError::into_inner).status(self.0.clock.unix_micros())
    }
}

/// Watches a policy folder until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    handle: PolicyHandle,
    stop: Sender<burst::Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Loads the policy of `dir` and starts watching. When the folder is broken, the copy of the
    /// last accepted set is in force and the status says why; without one, the error is everything
    /// that is wrong.
    ///
    /// `clock` gives the times in the status; waiting is done in real time.
    pub fn start(
        dir: impl AsRef<Path>,
        options: WatchOptions,
        clock: SharedClock,
    ) -> Result<Self, Problems> {
        let (sender, receiver) = channel();
        let runner = run::Runner::start(dir.as_ref(), options, clock, &sender)?;
        let handle = PolicyHandle(runner.shared());
        let thread = std::thread::Builder::new()
            .name("policy-watch".into())
            .spawn(move || runner.run(&receiver))
            .map_err(|error| {
                let message = format!("the policy watcher cannot start: {error}");
                crate::problem::Problem::of_file(dir.as_ref().display().to_string(), message)
            })?;
        Ok(Self { handle, stop: sender, thread: Some(thread) })
    }

    /// The policy in force now.
    pub fn current(&self) -> Arc<Policy> {
        self.handle.current()
    }

    /// Access for request paths, valid for as long as it is held; after the watcher is dropped it
    /// gives the last policy.
    pub fn handle(&self) -> PolicyHandle {
        self.handle.clone()
    }

    /// What is in force since when, what was refused and why.
    pub fn status(&self) -> PolicyStatus {
        self.handle.status()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.stop.send(burst::Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
