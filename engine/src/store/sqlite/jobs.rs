//! What batch jobs ask of the file. Events are only ever added, by one writer at a time, so the number of the last one
//! that was counted says which are new.

mod fold;
mod lock;
mod runs;

use super::{SqliteStore, failed, file, rows};
use crate::catalog::UserEvent;
use crate::features::Entity;
use crate::store::StoreError;
use crate::store::jobs::{Folded, JobRun, JobStore, Keep, Lock, Maintained, PopularityBy};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde_json::Value;

impl SqliteStore {
    /// A connection of its own.
    fn job_connection(&self) -> Result<Connection, StoreError> {
        file::connect(&self.path, &self.settings)
    }
}

fn state_of(connection: &Connection, job: &str) -> rusqlite::Result<Option<Value>> {
    let sql = "SELECT state FROM job_state WHERE job = ?1";
    let text: Option<String> = connection.query_row(sql, [job], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn set_state(connection: &Connection, job: &str, state: &Value) -> rusqlite::Result<()> {
    let sql = "INSERT INTO job_state VALUES (?1, ?2) ON CONFLICT (job) DO UPDATE SET state = excluded.state";
    connection.execute(sql, (job, state.to_string())).map(|_| ())
}

impl JobStore for SqliteStore {
    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>, StoreError> {
        lock::take(&self.path, name)
    }

    fn fold_popularity(&self, by: &PopularityBy) -> Result<Folded, StoreError> {
        fold::fold(&mut self.job_connection()?, by).map_err(failed("counting popularity"))
    }

    fn users_since(
        &self,
        mark: Option<&str>,
        each: &mut dyn FnMut(String),
    ) -> Result<String, StoreError> {
        let doing = failed("looking whose events are new");
        let connection = self.job_connection()?;
        let last: i64 = connection
            .query_row("SELECT coalesce(max(rowid), 0) FROM events", [], |row| row.get(0))
            .map_err(&doing)?;
        // A mark beyond what is there is of another file.
        let mark = mark.and_then(|mark| mark.parse::<i64>().ok()).filter(|mark| *mark <= last);
        let mut statement = connection
            .prepare("SELECT DISTINCT user_id FROM events WHERE rowid > ?1 AND rowid <= ?2")
            .map_err(&doing)?;
        let mut users = statement.query((mark.unwrap_or(0), last)).map_err(&doing)?;
        while let Some(row) = users.next().map_err(&doing)? {
            each(row.get(0).map_err(&doing)?);
        }
        Ok(last.to_string())
    }

    fn histories(
        &self,
        users: &[String],
        each: &mut dyn FnMut(&str, UserEvent),
    ) -> Result<(), StoreError> {
        let doing = failed("reading histories");
        let connection = self.job_connection()?;
        let sql = "SELECT product_id, kind, at_micros FROM events WHERE user_id = ?1";
        let mut statement = connection.prepare(sql).map_err(&doing)?;
        for user in users {
            let mut events = statement.query([user]).map_err(&doing)?;
            while let Some(row) = events.next().map_err(&doing)? {
                each(user, rows::user_event(row, 0).map_err(&doing)?);
            }
        }
        Ok(())
    }

    fn job_state(&self, job: &str) -> Result<Option<Value>, StoreError> {
        state_of(&self.side(), job).map_err(failed("reading what a job remembers"))
    }

    fn set_job_state(&self, job: &str, state: &Value) -> Result<(), StoreError> {
        set_state(&self.side(), job, state).map_err(failed("storing what a job remembers"))
    }

    fn put_features(
        &self,
        entity: Entity,
        name: &str,
        version: u32,
        values: &[(String, Value)],
    ) -> Result<u64, StoreError> {
        let doing = failed("storing feature values");
        let mut connection = self.job_connection()?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&doing)?;
        let mut changed = 0;
        {
            let sql = "INSERT INTO feature_values AS v VALUES (?1, ?2, ?3, ?4, ?5)
                ON CONFLICT (entity, name, entity_id) DO UPDATE
                SET version = excluded.version, value = excluded.value
                WHERE v.version <> excluded.version OR v.value <> excluded.value";
            let mut put = transaction.prepare(sql).map_err(&doing)?;
            for (id, value) in values {
                let row = (entity.name(), name, id, version, value.to_string());
                changed += put.execute(row).map_err(&doing)? as u64;
            }
        }
        transaction.commit().map_err(&doing)?;
        Ok(changed)
    }

    fn scan_features(
        &self,
        entity: Entity,
        name: &str,
        each: &mut dyn FnMut(&str, Value),
    ) -> Result<(), StoreError> {
        let doing = failed("reading feature values");
        let connection = self.job_connection()?;
        let sql = "SELECT entity_id, value FROM feature_values WHERE entity = ?1 AND name = ?2 ORDER BY entity_id";
        let mut statement = connection.prepare(sql).map_err(&doing)?;
        let mut values = statement.query((entity.name(), name)).map_err(&doing)?;
        while let Some(row) = values.next().map_err(&doing)? {
            let (id, text): (String, String) =
                (row.get(0).map_err(&doing)?, row.get(1).map_err(&doing)?);
            each(&id, serde_json::from_str(&text).unwrap_or_default());
        }
        Ok(())
    }

    fn tell_users(&self, users: Option<&[String]>) -> Result<(), StoreError> {
        if users.is_some_and(<[String]>::is_empty) {
            return Ok(());
        }
        let sql = "INSERT INTO meta VALUES ('features_number', 1)
            ON CONFLICT (name) DO UPDATE SET value = value + 1";
        self.side().execute(sql, []).map_err(failed("telling whose features changed"))?;
        Ok(())
    }

    fn run_began(&self, job: &str, instance: &str, now_micros: i64) -> Result<i64, StoreError> {
        runs::began(&self.side(), job, instance, now_micros).map_err(failed(runs::DOING))
    }

    fn run_ended(
        &self,
        id: i64,
        outcome: &str,
        detail: &Value,
        now_micros: i64,
    ) -> Result<(), StoreError> {
        runs::ended(&self.side(), id, outcome, detail, now_micros).map_err(failed(runs::DOING))
    }

    fn runs(&self, job: Option<&str>, most: usize) -> Result<Vec<JobRun>, StoreError> {
        runs::latest(&self.side(), job, most).map_err(failed("reading the runs of jobs"))
    }

    /// A file has no months to make or drop, and its events stay.
    fn maintain(&self, keep: &Keep) -> Result<Maintained, StoreError> {
        let doing = failed("tidying up");
        let side = self.side();
        let runs_forgotten = runs::forget(&side, keep.runs).map_err(&doing)?;
        let nobodys = "DELETE FROM feature_values WHERE entity = 'product'
            AND NOT EXISTS (SELECT 1 FROM products WHERE id = entity_id)";
        let values_of_nobody = side.execute(nobodys, []).map_err(&doing)? as u64;
        Ok(Maintained { runs_forgotten, values_of_nobody, ..Maintained::default() })
    }
}
