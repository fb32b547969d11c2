//! Batch jobs: what is made from all events and all products now and then, so that requests need not.
//!
//! Each job is incremental where it can be, may be run twice or be killed at any point, and leaves what was there
//! before when it fails. One process runs a job at a time: [`run()`] takes the job's lock and notes the run. Nothing
//! here knows command lines; [`schedule`] runs all jobs at their intervals, by one leader of a fleet.

mod affinity;
pub mod check;
mod freshness;
pub mod schedule;
pub mod snapshot;

use crate::store::StoreError;
use crate::store::jobs::{JobStore, Keep, PopularityBy};
use penstock_config::clock::SharedClock;
use penstock_config::policy::Policy;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// Which products changed is known for so long: an instance that was away for longer reads the whole catalogue.
const CHANGES_KEPT: Duration = Duration::from_hours(7 * 24);
/// Runs of each job that are kept: three days of the one that runs every five minutes.
const RUNS_KEPT: u32 = 1_000;

/// The jobs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Scores of products from events.
    Popularity,
    /// How new each product is, stored for training.
    Freshness,
    /// What users care for in the long run.
    Affinity,
    /// All features as files, for training.
    Snapshot,
    /// Months of events and bounded tables.
    Maintenance,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Popularity, Self::Freshness, Self::Affinity, Self::Snapshot, Self::Maintenance];

    /// On the command line and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Popularity => "popularity",
            Self::Freshness => "freshness",
            Self::Affinity => crate::features::AFFINITY,
            Self::Snapshot => "feature_snapshot",
            Self::Maintenance => "maintenance",
        }
    }

    /// The job of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    /// What it does, for people.
    pub fn about(self) -> &'static str {
        match self {
            Self::Popularity => "counts new events into the products' popularity",
            Self::Freshness => "stores how new each product is",
            Self::Affinity => "stores what users with new events care for in the long run",
            Self::Snapshot => "writes all features as Parquet files",
            Self::Maintenance => "makes months for events ahead, retires old ones, bounds tables",
        }
    }

    /// From the beginning of one run to the next.
    pub fn every(self) -> Duration {
        match self {
            Self::Popularity => 5 * MINUTE,
            Self::Freshness | Self::Affinity | Self::Snapshot | Self::Maintenance => DAY,
        }
    }

    /// Jobs that must have run once before.
    pub fn needs(self) -> &'static [Self] {
        match self {
            Self::Snapshot => &[Self::Popularity, Self::Freshness, Self::Affinity],
            Self::Popularity | Self::Freshness | Self::Affinity | Self::Maintenance => &[],
        }
    }
}

/// Why a job did not do its work. What was there before is there still.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else is at it.
    #[error("{0} runs already, here or on another machine; it is not begun twice")]
    Busy(&'static str),
    /// A file of a snapshot.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What a job works with.
pub struct Context<'a> {
    /// Events and products, and where results go.
    pub store: &'a dyn JobStore,
    /// Weights and half-lives.
    pub policy: Arc<Policy>,
    /// Where snapshots go.
    pub data_dir: &'a Path,
    /// The time.
    pub clock: SharedClock,
    /// Whose runs these are.
    pub instance: &'a str,
    /// From everything, whatever was done before.
    pub full: bool,
    /// Days of snapshots that are kept.
    pub keep_days: usize,
    /// Told how far it is: what is counted, how many are done.
    pub progress: &'a (dyn Fn(&'static str, u64) + Sync),
}

/// Runs a job and notes the run; what it did, for people and programs.
///
/// Errors: [`JobError::Busy`] when it runs already, which is no run; everything else is noted as failed.
pub fn run(job: Job, context: &Context<'_>) -> Result<Value, JobError> {
    noted(job, context, || work(job, context))
}

/// The same with the work in other words: a snapshot under another date.
pub fn noted(
    job: Job,
    context: &Context<'_>,
    work: impl FnOnce() -> Result<Value, JobError>,
) -> Result<Value, JobError> {
    let store = context.store;
    let lock = store.try_lock(job.name())?.ok_or(JobError::Busy(job.name()))?;
    let id = store.run_began(job.name(), context.instance, context.clock.unix_micros())?;
    let done = work();
    let (outcome, detail) = match &done {
        Ok(detail) => ("done", detail.clone()),
        Err(error) => ("failed", json!({"error": error.to_string()})),
    };
    let noted = store.run_ended(id, outcome, &detail, context.clock.unix_micros());
    drop(lock);
    let done = done?;
    noted?;
    Ok(done)
}

fn work(job: Job, context: &Context<'_>) -> Result<Value, JobError> {
    match job {
        Job::Popularity => {
            let ranking = &context.policy.ranking;
            let by = PopularityBy {
                weights: ranking.events,
                half_life: ranking.popularity_half_life,
                full: context.full,
            };
            Ok(json!(context.store.fold_popularity(&by)?))
        }
        Job::Freshness => freshness::store(context),
        Job::Affinity => affinity::store(context),
        Job::Snapshot => snapshot::write(context, &snapshot::today(&*context.clock)),
        Job::Maintenance => {
            let now_micros = context.clock.unix_micros();
            let keep = Keep { now_micros, changes: CHANGES_KEPT, runs: RUNS_KEPT };
            Ok(json!(context.store.maintain(&keep)?))
        }
    }
}
