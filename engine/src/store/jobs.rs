//! What batch jobs ask of the store, beside what everybody may ask. Calls block.
//!
//! A store keeps what a job remembers from run to run, the values it makes, and its runs. What a job reads is what
//! was stored since it last read: each store has its own mark for that, which only it understands.

use super::{DataStore, StoreError};
use crate::catalog::UserEvent;
use crate::features::Entity;
use penstock_config::policy::EventWeights;
use serde_json::Value;
use std::time::Duration;

/// How popularity is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PopularityBy {
    /// What an event adds.
    pub weights: EventWeights,
    /// After this long it counts half.
    pub half_life: Duration,
    /// From all events, whatever was counted before.
    pub full: bool,
}

/// What counting changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Folded {
    /// Events that were counted now.
    pub events: u64,
    /// Products whose score is another one now.
    pub products: u64,
    /// Why all events were counted and not only new ones; `None`: only new ones were.
    pub full: Option<&'static str>,
    /// As [`PopularityMade::number`](super::PopularityMade) has it then.
    pub number: u64,
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct JobRun {
    /// Grows with each run.
    pub id: i64,
    /// Which job.
    pub job: String,
    /// Which process ran it.
    pub instance: String,
    /// Microseconds since 1970.
    pub started_micros: i64,
    /// The same; `None`: it runs, or its process died.
    pub finished_micros: Option<i64>,
    /// `done`, `failed` or `died`; `None` while it runs.
    pub outcome: Option<String>,
    /// What it did, or why it failed.
    pub detail: Value,
}

/// What [`JobStore::maintain`] keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keep {
    /// Now, microseconds since 1970.
    pub now_micros: i64,
    /// Which products changed is known for so long.
    pub changes: Duration,
    /// Runs of each job.
    pub runs: u32,
}

/// What was tidied up.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Maintained {
    /// Months of events that were dropped.
    pub months_retired: Vec<String>,
    /// Notes of changed products that were forgotten.
    pub changes_forgotten: u64,
    /// Runs that were forgotten.
    pub runs_forgotten: u64,
    /// Feature values whose product is gone.
    pub values_of_nobody: u64,
}

/// Something that one process holds at a time. Given back on drop, and when the process dies.
pub trait Lock: Send {
    /// It is still held: a database may have lost the connection that held it.
    fn is_held(&self) -> bool;
}

/// See the module.
pub trait JobStore: DataStore {
    /// Takes the lock of this name; `None`: somebody else holds it. Never waits for them.
    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>, StoreError>;

    /// Counts events that were not counted yet into the products' scores, each once, whoever commits meanwhile. Scores
    /// and what is remembered of them change together or not at all.
    fn fold_popularity(&self, by: &PopularityBy) -> Result<Folded, StoreError>;

    /// Users with events that were not there at `mark`; `None`: all users. Each once. Gives the mark of what it saw.
    fn users_since(
        &self,
        mark: Option<&str>,
        each: &mut dyn FnMut(String),
    ) -> Result<String, StoreError>;

    /// All events of these users, in no stated order.
    fn histories(
        &self,
        users: &[String],
        each: &mut dyn FnMut(&str, UserEvent),
    ) -> Result<(), StoreError>;

    /// What a job remembers.
    fn job_state(&self, job: &str) -> Result<Option<Value>, StoreError>;

    /// Remembers it, durably.
    fn set_job_state(&self, job: &str, state: &Value) -> Result<(), StoreError>;

    /// Stores values of one feature, `(entity, value)`; how many are other ones than before. In one transaction.
    fn put_features(
        &self,
        entity: Entity,
        name: &str,
        version: u32,
        values: &[(String, Value)],
    ) -> Result<u64, StoreError>;

    /// The stored values of one feature, `(entity, value)`, by ascending id of the entity.
    fn scan_features(
        &self,
        entity: Entity,
        name: &str,
        each: &mut dyn FnMut(&str, Value),
    ) -> Result<(), StoreError>;

    /// Whoever remembers features of these users is to forget them; `None`: of all.
    fn tell_users(&self, users: Option<&[String]>) -> Result<(), StoreError>;

    /// A run begins; runs of the same job that never ended are noted as died. Gives its number.
    fn run_began(&self, job: &str, instance: &str, now_micros: i64) -> Result<i64, StoreError>;

    /// It is over.
    fn run_ended(
        &self,
        id: i64,
        outcome: &str,
        detail: &Value,
        now_micros: i64,
    ) -> Result<(), StoreError>;

    /// The latest runs, of one job or of all; newest first.
    fn runs(&self, job: Option<&str>, most: usize) -> Result<Vec<JobRun>, StoreError>;

    /// Makes months ahead, retires old ones, forgets what is only in the way.
    fn maintain(&self, keep: &Keep) -> Result<Maintained, StoreError>;
}
