//! Runs of jobs, and who died in one.

use crate::store::jobs::JobRun;
use rusqlite::{Connection, Row};
use serde_json::Value;

pub(super) const DOING: &str = "noting the run of a job";

pub(super) fn began(
    connection: &Connection,
    job: &str,
    instance: &str,
    now_micros: i64,
) -> rusqlite::Result<i64> {
    // Whoever begins holds the job's lock, so nobody else is in a run.
    connection.execute(
        "UPDATE job_runs SET outcome = 'died', finished_micros = ?2 WHERE job = ?1 AND outcome IS NULL",
        (job, now_micros),
    )?;
    connection.execute(
        "INSERT INTO job_runs (job, instance, started_micros) VALUES (?1, ?2, ?3)",
        (job, instance, now_micros),
    )?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn ended(
    connection: &Connection,
    id: i64,
    outcome: &str,
    detail: &Value,
    now_micros: i64,
) -> rusqlite::Result<()> {
    let sql = "UPDATE job_runs SET outcome = ?2, detail = ?3, finished_micros = ?4 WHERE id = ?1";
    connection.execute(sql, (id, outcome, detail.to_string(), now_micros)).map(|_| ())
}

pub(super) fn latest(
    connection: &Connection,
    job: Option<&str>,
    most: usize,
) -> rusqlite::Result<Vec<JobRun>> {
    let mut statement = connection.prepare(
        "SELECT id, job, instance, started_micros, finished_micros, outcome, detail FROM job_runs
         WHERE ?1 IS NULL OR job = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map((job, most as i64), run)?;
    rows.collect()
}

/// Keeps the latest `keep` of each job.
pub(super) fn forget(connection: &Connection, keep: u32) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM job_runs WHERE outcome IS NOT NULL AND (
        SELECT count(*) FROM job_runs later WHERE later.job = job_runs.job AND later.id > job_runs.id) >= ?1";
    connection.execute(sql, [keep]).map(|count| count as u64)
}

fn run(row: &Row<'_>) -> rusqlite::Result<JobRun> {
    let detail: Option<String> = row.get(6)?;
    Ok(JobRun {
        id: row.get(0)?,
        job: row.get(1)?,
        instance: row.get(2)?,
        started_micros: row.get(3)?,
        finished_micros: row.get(4)?,
        outcome: row.get(5)?,
        detail: detail.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    })
}
