//! What batch jobs ask of the database. Each piece of work has a connection of its own at the primary.

mod fold;
mod lock;
mod runs;
mod upkeep;
mod values;

use super::fault::Fault;
use super::session::Session;
use super::{PostgresStore, rows};
use crate::catalog::UserEvent;
use crate::features::Entity;
use crate::store::StoreError;
use crate::store::jobs::{Folded, JobRun, JobStore, Keep, Lock, Maintained, PopularityBy};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio_postgres::{Client, Row};

/// Rows that wait to be looked at.
const ROWS: usize = 8_192;

/// Users with events of transactions that the snapshot `$1` does not see and this one does. No event that is there is
/// of a transaction to come, but for a database that was restored from another server's dump.
const USERS_SINCE: &str = "
    SELECT DISTINCT user_id FROM penstock.events
    WHERE stored_by >= pg_snapshot_xmin($1::text::pg_snapshot)::text::bigint
      AND NOT pg_visible_in_snapshot(stored_by::text::xid8, $1::text::pg_snapshot)";

const USERS: &str = "SELECT DISTINCT user_id FROM penstock.events";

const HISTORIES: &str = "
    SELECT user_id, product_id, event_type::text, \"timestamp\" FROM penstock.events WHERE user_id = ANY($1)";

impl PostgresStore {
    /// Does `work` on a connection of its own, which is closed then.
    fn on_session<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl for<'c> FnOnce(&'c mut Client) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let done = self.wait(async move {
            let mut session = Session::open(&shared.servers.primary.connector).await?;
            work(&mut session.client).await
        });
        done.map_err(|fault: Fault| fault.told(doing))
    }

    /// Shows every row that `sql` gives to `each`, on the caller's thread. The transaction sees one moment; its
    /// snapshot is given back.
    fn stream(
        &self,
        doing: &'static str,
        sql: &'static str,
        params: Vec<String>,
        each: &mut dyn FnMut(&Row) -> Result<(), tokio_postgres::Error>,
    ) -> Result<String, StoreError> {
        let (send, received) = std::sync::mpsc::sync_channel::<Result<Row, Fault>>(ROWS);
        let shared = self.shared.clone();
        let streaming = self.spawn(async move {
            let streamed = async {
                let session = Session::open(&shared.servers.primary.connector).await?;
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                session.client.batch_execute(begin).await?;
                let mark = "SELECT pg_current_snapshot()::text";
                let mark: String = session.client.query_one(mark, &[]).await?.try_get(0)?;
                let stream = session.client.query_raw(sql, params).await?;
                let mut stream = std::pin::pin!(stream);
                while let Some(row) = stream.try_next().await? {
                    if tokio::task::block_in_place(|| send.send(Ok(row))).is_err() {
                        break;
                    }
                }
                Ok::<_, Fault>(mark)
            };
            match streamed.await {
                Ok(mark) => Some(mark),
                Err(fault) => {
                    let _ = tokio::task::block_in_place(|| send.send(Err(fault)));
                    None
                }
            }
        });
        for row in received {
            let row = row.map_err(|fault| fault.told(doing))?;
            each(&row).map_err(|error| Fault::from(error).told(doing))?;
        }
        let mark = self.wait(async move { streaming.await.ok().flatten() });
        mark.ok_or_else(|| super::ended(doing))
    }
}

impl JobStore for PostgresStore {
    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>, StoreError> {
        lock::take(self, name)
    }

    fn fold_popularity(&self, by: &PopularityBy) -> Result<Folded, StoreError> {
        let by = *by;
        let doing = "counting popularity";
        self.on_session(doing, move |client| Box::pin(async move { fold::fold(client, &by).await }))
    }

    fn users_since(
        &self,
        mark: Option<&str>,
        each: &mut dyn FnMut(String),
    ) -> Result<String, StoreError> {
        let (sql, params) = match mark {
            Some(mark) => (USERS_SINCE, vec![mark.to_owned()]),
            None => (USERS, Vec::new()),
        };
        self.stream("looking whose events are new", sql, params, &mut |row| {
            each(row.try_get(0)?);
            Ok(())
        })
    }

    fn histories(
        &self,
        users: &[String],
        each: &mut dyn FnMut(&str, UserEvent),
    ) -> Result<(), StoreError> {
        let doing = "reading histories";
        let users = users.to_vec();
        let rows = self.on_session(doing, move |client| {
            Box::pin(async move { Ok(client.query(HISTORIES, &[&users]).await?) })
        })?;
        for row in &rows {
            let failed = |error| Fault::from(error).told(doing);
            each(row.try_get(0).map_err(failed)?, rows::user_event(row, 1).map_err(failed)?);
        }
        Ok(())
    }

    fn job_state(&self, job: &str) -> Result<Option<Value>, StoreError> {
        values::job_state(self, job)
    }

    fn set_job_state(&self, job: &str, state: &Value) -> Result<(), StoreError> {
        values::set_job_state(self, job, state)
    }

    fn put_features(
        &self,
        entity: Entity,
        name: &str,
        version: u32,
        values: &[(String, Value)],
    ) -> Result<u64, StoreError> {
        values::put(self, entity, name, version, values)
    }

    fn scan_features(
        &self,
        entity: Entity,
        name: &str,
        each: &mut dyn FnMut(&str, Value),
    ) -> Result<(), StoreError> {
        let params = vec![entity.name().to_owned(), name.to_owned()];
        self.stream("reading feature values", values::SCAN, params, &mut |row| {
            let text: &str = row.try_get(1)?;
            // jsonb is always JSON.
            each(row.try_get(0)?, serde_json::from_str(text).unwrap_or_default());
            Ok(())
        })?;
        Ok(())
    }

    fn tell_users(&self, users: Option<&[String]>) -> Result<(), StoreError> {
        values::tell_users(self, users)
    }

    fn run_began(&self, job: &str, instance: &str, now_micros: i64) -> Result<i64, StoreError> {
        runs::began(self, job, instance, now_micros)
    }

    fn run_ended(
        &self,
        id: i64,
        outcome: &str,
        detail: &Value,
        now_micros: i64,
    ) -> Result<(), StoreError> {
        runs::ended(self, id, outcome, detail, now_micros)
    }

    fn runs(&self, job: Option<&str>, most: usize) -> Result<Vec<JobRun>, StoreError> {
        runs::latest(self, job, most)
    }

    fn maintain(&self, keep: &Keep) -> Result<Maintained, StoreError> {
        let months = self.shared.servers.settings.keep_months;
        let keep = *keep;
        self.on_session("tidying up", move |client| {
            Box::pin(async move { upkeep::maintain(client, &keep, months).await })
        })
    }
}
