//! The watcher's thread.

use super::burst::{Burst, Signal};
use super::first::First;
use super::gate::{Gate, Sight, Step};
use super::heartbeat::Heart;
use super::status::{Record, Rejected, Reloads, Source, WatcherKind};
use super::targets::Targets;
use super::{Shared, WatchOptions};
use crate::clock::{self, SharedClock};
use crate::disk;
use crate::policy::{FileSet, Policy};
use crate::problem::{Problem, Problems};
use crate::publish;
use crate::units::rfc3339;
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) struct Runner {
    dir: PathBuf,
    options: WatchOptions,
    kept: PathBuf,
    shared: Arc<Shared>,
    gate: Gate,
    /// The contents in force.
    files: FileSet,
    /// The contents last looked at.
    seen: Option<FileSet>,
    /// What the folder's last failure to be read was, so that it is told once.
    unreadable: Option<Problem>,
    targets: Option<Targets>,
    heart: Heart,
    keeping_failed: bool,
}

impl Runner {
    pub(super) fn start(
        dir: &Path,
        options: WatchOptions,
        clock: SharedClock,
        events: &Sender<Signal>,
    ) -> Result<Self, Problems> {
        // Before the first look: a change between the two is then an event.
        let mut targets = options.use_events.then(|| Targets::start(events.clone())).flatten();
        let watching = targets.as_mut().is_some_and(|targets| targets.renew(dir));
        if let Some(folder) = &options.keep_in {
            // Failing is told when the copy cannot be written.
            let _ = std::fs::create_dir_all(folder);
        }
        let kept = options
            .keep_in
            .clone()
            .unwrap_or_else(|| dir.join(".accepted"))
            .join(format!("policy-{}.json", options.instance));
        let now = clock.unix_micros();
        publish::recover(dir);
        let first = First::find(dir, &kept, now)?;
        let record = Record {
            version: first.policy.version.clone(),
            since_micros: now,
            checked_micros: now,
            source: first.source,
            in_sync: first.source == Source::Folder,
            warnings: first.warnings,
            reloads: Reloads { accepted: 0, rejected: u64::from(first.rejected.is_some()) },
            last_rejected: first.rejected,
            watcher: if watching { WatcherKind::Events } else { WatcherKind::Polling },
        };
        let mut gate = Gate::new(options.vanish_grace, sight_of(&first.files));
        if let Some(rejected) = &record.last_rejected {
            gate.refuse(rejected.version.clone());
        }
        let mut runner = Self {
            heart: Heart::new(dir, &options.instance),
            dir: dir.to_owned(),
            kept,
            shared: Arc::new(Shared {
                policy: ArcSwap::from_pointee(first.policy),
                record: Mutex::new(record),
                clock,
            }),
            gate,
            files: first.files,
            seen: first.seen,
            unreadable: first.unreadable,
            targets,
            keeping_failed: false,
            options,
        };
        runner.heart.sweep(now);
        disk::sweep(disk::folder_of(&runner.kept), now);
        runner.keep();
        runner.beat();
        Ok(runner)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn run(mut self, signals: &Receiver<Signal>) {
        let mut next_poll = clock::now() + self.options.poll_interval;
        let mut next_beat = clock::now() + self.options.heartbeat_interval;
        let mut burst = Burst::default();
        let mut again: Option<Instant> = None;
        loop {
            let wake = [Some(next_poll), Some(next_beat), burst.ends(self.options.debounce), again];
            let wake = wake.into_iter().flatten().min().unwrap_or(next_poll);
            let wait = wake.saturating_duration_since(clock::now());
            match signals.recv_timeout(wait) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                // What is due is done even when signals never pause.
                Ok(signal) => burst.note(signal, clock::now()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = clock::now();
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if due(burst.ends(self.options.debounce)) || due(again) {
                burst = Burst::default();
                again = self.look(now);
            } else if next_poll <= now {
                // While a burst lasts, a look is coming anyway.
                if burst.ends(self.options.debounce).is_none() && self.changed_unnoticed() {
                    burst.note(Signal::Changed, now);
                }
                self.renew();
            }
            if next_poll <= now {
                next_poll = now + self.options.poll_interval;
            }
            if next_beat <= now {
                self.beat();
                next_beat = now + self.options.heartbeat_interval;
            }
        }
        self.heart.stop();
    }

    /// The poll's question: is there anything an event should have told? What it finds is read
    /// again after the debounce time, since it may be half written.
    fn changed_unnoticed(&mut self) -> bool {
        publish::recover(&self.dir);
        match FileSet::collect(&self.dir) {
            Ok(files) => {
                self.record().checked_micros = self.shared.clock.unix_micros();
                self.seen.as_ref() != Some(&files)
            }
            Err(problem) => self.unreadable.as_ref() != Some(&problem),
        }
    }

    /// Reads the folder and acts on it. `Some`: look again then.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        publish::recover(&self.dir);
        let collected = FileSet::collect(&self.dir);
        let now_micros = self.shared.clock.unix_micros();
        let mut again = None;
        self.seen = collected.as_ref().ok().cloned();
        match collected {
            Err(problem) => self.cannot_read(problem, now_micros),
            Ok(files) => {
                self.unreadable = None;
                let sight = sight_of(&files);
                let step = self.gate.look(&sight, now);
                {
                    let mut record = self.record();
                    record.checked_micros = now_micros;
                    record.in_sync = step == Step::InForce;
                }
                match step {
                    Step::Wait(until) => again = Some(until),
                    Step::Refused => {}
                    Step::InForce => self.same_contents(files),
                    Step::Judge => self.judge(files, sight, now_micros),
                }
            }
        }
        self.renew();
        again
    }

    fn judge(&mut self, files: FileSet, sight: Sight, now_micros: i64) {
        match Policy::from_files(&files) {
            Ok((policy, warnings)) => {
                let policy = Arc::new(policy);
                tracing::info!(
                    version = policy.version,
                    warnings = warnings.len(),
                    "policy in force"
                );
                for warning in &warnings {
                    tracing::warn!(%warning, "policy");
                }
                {
                    // Swapped under the lock: who sees the new policy sees its status too.
                    let mut record = self.record();
                    self.shared.policy.store(Arc::clone(&policy));
                    record.version.clone_from(&policy.version);
                    record.since_micros = now_micros;
                    record.source = Source::Folder;
                    record.in_sync = true;
                    record.warnings = warnings;
                    record.reloads.accepted += 1;
                }
                self.gate.accept(sight);
                self.files = files;
                self.keep();
                self.tell(&policy);
            }
            Err(problems) => {
                self.gate.refuse(sight.version.clone());
                self.refuse(sight.version, problems, now_micros);
            }
        }
        self.beat();
    }

    /// A callback that panics must not end the watching: the process would run on an old policy
    /// for ever.
    fn tell(&self, policy: &Arc<Policy>) {
        let Some(tell) = &self.options.on_accepted else {
            return;
        };
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(policy)));
        if told.is_err() {
            tracing::error!(version = policy.version, "the callback for a new policy panicked");
        }
    }

    /// A file that is no policy file came or went, or one equal to its default did.
    fn same_contents(&mut self, files: FileSet) {
        if files == self.files {
            return;
        }
        if let Ok((_, warnings)) = Policy::from_files(&files) {
            self.record().warnings = warnings;
        }
        self.files = files;
        self.beat();
    }

    fn cannot_read(&mut self, problem: Problem, now_micros: i64) {
        if self.unreadable.as_ref() == Some(&problem) {
            return;
        }
        self.unreadable = Some(problem.clone());
        self.record().in_sync = false;
        self.refuse(String::new(), problem.into(), now_micros);
        self.beat();
    }

    fn refuse(&mut self, version: String, problems: Problems, now_micros: i64) {
        let in_force = self.record().version.clone();
        log_refusal(&version, &problems, &in_force);
        let mut record = self.record();
        record.reloads.rejected += 1;
        record.last_rejected = Some(Rejected { version, when: rfc3339(now_micros), problems });
    }

    fn renew(&mut self) {
        let watching = match &mut self.targets {
            Some(targets) => targets.renew(&self.dir),
            None => false,
        };
        self.record().watcher = if watching { WatcherKind::Events } else { WatcherKind::Polling };
    }

    fn keep(&mut self) {
        let saved = super::kept::save(&self.kept, &self.files, self.shared.clock.unix_micros());
        if let Err(error) = &saved
            && !self.keeping_failed
        {
            tracing::warn!(
                path = %self.kept.display(), %error,
                "no copy of the accepted policy: a restart with a broken folder would fail"
            );
        }
        self.keeping_failed = saved.is_err();
    }

    fn beat(&mut self) {
        let now_micros = self.shared.clock.unix_micros();
        let status = self.record().status(now_micros);
        self.heart.beat(&status, now_micros);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn log_refusal(version: &str, problems: &Problems, in_force: &str) {
    tracing::warn!(
        version,
        in_force,
        problems = problems.as_slice().len(),
        "policy refused, the last good version stays in force: {problems}"
    );
}

fn sight_of(files: &FileSet) -> Sight {
    Sight {
        version: files.version(),
        names: files.iter().map(|(name, _)| name.to_owned()).collect(),
    }
}
