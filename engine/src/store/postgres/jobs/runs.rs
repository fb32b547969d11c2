//! Runs of jobs, and who died in one.

use super::super::fault::Fault;
use super::super::rows::{Moment, moment};
use super::PostgresStore;
use crate::store::StoreError;
use crate::store::jobs::JobRun;
use serde_json::Value;
use tokio_postgres::{Error, Row};

const DOING: &str = "noting the run of a job";

pub(super) fn began(
    store: &PostgresStore,
    job: &str,
    instance: &str,
    now_micros: i64,
) -> Result<i64, StoreError> {
    let (job, instance, now) = (job.to_owned(), instance.to_owned(), moment(now_micros));
    store.on_session(DOING, move |client| {
        Box::pin(async move {
            // Whoever begins holds the job's lock, so nobody else is in a run.
            let died = "UPDATE penstock.job_runs SET outcome = 'died', finished_at = $2
                        WHERE job = $1 AND outcome IS NULL";
            client.execute(died, &[&job, &now]).await?;
            let add = "INSERT INTO penstock.job_runs (job, instance, started_at) VALUES ($1, $2, $3) RETURNING id";
            Ok(client.query_one(add, &[&job, &instance, &now]).await?.try_get(0)?)
        })
    })
}

pub(super) fn ended(
    store: &PostgresStore,
    id: i64,
    outcome: &str,
    detail: &Value,
    now_micros: i64,
) -> Result<(), StoreError> {
    let (outcome, detail) = (outcome.to_owned(), detail.to_string());
    let now = moment(now_micros);
    store.on_session(DOING, move |client| {
        Box::pin(async move {
            let sql = "UPDATE penstock.job_runs SET outcome = $2, detail = $3::text::jsonb, finished_at = $4
                       WHERE id = $1";
            client.execute(sql, &[&id, &outcome, &detail, &now]).await?;
            Ok(())
        })
    })
}

pub(super) fn latest(
    store: &PostgresStore,
    job: Option<&str>,
    most: usize,
) -> Result<Vec<JobRun>, StoreError> {
    let job = job.map(str::to_owned);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    store.on_session("reading the runs of jobs", move |client| {
        Box::pin(async move {
            let sql = "SELECT id, job, instance, started_at, finished_at, outcome, detail::text
                       FROM penstock.job_runs WHERE $1::text IS NULL OR job = $1 ORDER BY id DESC LIMIT $2";
            let rows = client.query(sql, &[&job, &most]).await?;
            rows.iter().map(run).collect::<Result<_, _>>().map_err(Fault::from)
        })
    })
}

fn run(row: &Row) -> Result<JobRun, Error> {
    let started: Moment = row.try_get(3)?;
    let finished: Option<Moment> = row.try_get(4)?;
    let detail: Option<&str> = row.try_get(6)?;
    Ok(JobRun {
        id: row.try_get(0)?,
        job: row.try_get(1)?,
        instance: row.try_get(2)?,
        started_micros: started.0,
        finished_micros: finished.map(|moment| moment.0),
        outcome: row.try_get(5)?,
        detail: detail.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
    })
}
