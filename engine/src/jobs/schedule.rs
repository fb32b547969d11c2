//! All jobs at their intervals, by one leader of a fleet.
//!
//! Every candidate tries to take the leader's lock each second; the store lets go of it when the leader dies. When a
//! job is due says the note of its last run, so a new leader goes on where the old one was. A failed run is repeated
//! sooner than its interval says, later each time.

use super::{Context, Job, JobError};
use crate::store::StoreError;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two attempts to lead, and two looks whether the lead is still held.
const LOOK: Duration = Duration::from_secs(1);
/// After the first failure in a row; doubled with each.
const AGAIN: Duration = Duration::from_secs(10);
/// The lock's name.
const LEADER: &str = "leader";

/// What is told of, for logs and people.
#[derive(Debug)]
pub enum News<'a> {
    /// This process leads now, or not any more.
    Leads(bool),
    /// A job ended.
    Ran(Job, &'a Result<serde_json::Value, JobError>),
    /// The store could not be asked.
    Trouble(&'a StoreError),
}

/// When a job is due, microseconds since 1970: `runs` are its latest runs, newest first, as `(started, done)`.
pub fn due_at(job: Job, runs: &[(i64, bool)]) -> i64 {
    let Some((started, _)) = runs.first() else { return i64::MIN };
    let failures = runs.iter().take_while(|(_, done)| !done).count() as u32;
    let every = micros(job.every());
    let wait = match failures {
        0 => every,
        failures => every.min(micros(AGAIN).saturating_mul(1 << (failures - 1).min(16))),
    };
    started.saturating_add(wait)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Runs until the other end of `stop` is dropped. `context` is made anew for each run, with the policy in force then;
/// `tell` may be called from several threads.
pub fn run<'c>(
    context: &(dyn Fn() -> Context<'c> + Sync),
    stop: &Receiver<()>,
    tell: &(dyn Fn(News<'_>) + Sync),
) {
    let store = context().store;
    while waits(stop) {
        match store.try_lock(LEADER) {
            Ok(None) => {}
            Err(error) => tell(News::Trouble(&error)),
            Ok(Some(lock)) => {
                tell(News::Leads(true));
                let leads = AtomicBool::new(true);
                std::thread::scope(|scope| {
                    for job in Job::ALL {
                        let leads = &leads;
                        scope.spawn(move || while_leading(job, context, stop, leads, tell));
                    }
                    while waits(stop) && lock.is_held() {}
                    leads.store(false, Ordering::Release);
                });
                tell(News::Leads(false));
            }
        }
    }
}

/// Waits for a moment; `false`: it is to end.
fn waits(stop: &Receiver<()>) -> bool {
    !matches!(stop.recv_timeout(LOOK), Err(RecvTimeoutError::Disconnected))
}

fn while_leading<'c>(
    job: Job,
    context: &(dyn Fn() -> Context<'c> + Sync),
    stop: &Receiver<()>,
    leads: &AtomicBool,
    tell: &(dyn Fn(News<'_>) + Sync),
) {
    loop {
        let context = context();
        match is_due(job, &context) {
            Ok(true) => {
                let ran = super::run(job, &context);
                // Somebody runs it by hand: it is no failure, and due until that is over.
                if !matches!(ran, Err(JobError::Busy(_))) {
                    tell(News::Ran(job, &ran));
                }
            }
            Ok(false) => {}
            Err(error) => tell(News::Trouble(&error)),
        }
        if !waits(stop) || !leads.load(Ordering::Acquire) {
            return;
        }
    }
}

fn is_due(job: Job, context: &Context<'_>) -> Result<bool, StoreError> {
    let runs = |job: Job| -> Result<Vec<(i64, bool)>, StoreError> {
        let runs = context.store.runs(Some(job.name()), 20)?;
        let done = |outcome: &Option<String>| outcome.as_deref() == Some("done");
        Ok(runs.iter().map(|run| (run.started_micros, done(&run.outcome))).collect())
    };
    if due_at(job, &runs(job)?) > context.clock.unix_micros() {
        return Ok(false);
    }
    for needed in job.needs() {
        if !runs(*needed)?.iter().any(|(_, done)| *done) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_due_by_their_interval_and_sooner_after_failures() {
        let second = 1_000_000;
        let check = |runs: &[(i64, bool)], expected: i64| {
            assert_eq!(due_at(Job::Popularity, runs), expected, "{runs:?}");
        };
        check(&[], i64::MIN);
        check(&[(0, true)], 300 * second);
        check(&[(0, false)], 10 * second);
        check(&[(7 * second, false), (0, false), (0, true)], 27 * second);
        check(&[(0, false); 4], 80 * second);
        check(&[(0, false); 20], 300 * second);
        assert_eq!(due_at(Job::Maintenance, &[(0, true)]), 86_400 * second);
    }
}
