//! The schema: made and brought up to date, forward only, by one process at a time.

use super::connect::{Connector, Purpose};
use super::fault::{is_missing, text};
use super::partitions;
use crate::store::StoreError;
use penstock_config::bootstrap::Database;
use std::sync::Arc;
use tokio_postgres::Client;

/// One step of the schema. A step that was released is never edited.
struct Step {
    /// For people.
    name: &'static str,
    sql: &'static str,
    /// Programs that know fewer steps than this cannot work with it.
    needs: i32,
}

/// In order; a step's number is its place, beginning at 1.
const STEPS: &[Step] = &[
    Step { name: "base", sql: include_str!("migrations/0001_base.sql"), needs: 1 },
    Step { name: "jobs", sql: include_str!("migrations/0002_jobs.sql"), needs: 1 },
];

/// Whoever migrates holds this advisory lock.
const LOCK: i64 = 0x504E_5354_4D49_4752;

/// What migrating did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Migrated {
    /// Names of the steps that were taken.
    pub steps: Vec<&'static str>,
    /// The version of the schema then.
    pub version: i32,
}

/// Brings the schema up to date. Safe to run from several processes at once: one does it, the others wait and find it
/// done. Each step is one transaction.
pub async fn migrate(settings: &Database, instance: &str) -> Result<Migrated, StoreError> {
    let connector =
        Connector::new(Arc::new(settings.clone()), settings.url.clone(), instance, true);
    let connector =
        connector.map_err(|error| StoreError::Unavailable(format!("database: {error}")))?;
    let (mut client, driver) =
        connector.to(Purpose::Work).open().await.map_err(|error| failed("connecting", &error))?;
    let driving = tokio::spawn(driver.drive());
    let done = run(&mut client).await;
    // Closing the connection lets go of the lock.
    drop(client);
    let _ = driving.await;
    done
}

async fn run(client: &mut Client) -> Result<Migrated, StoreError> {
    let migrating = |error: &tokio_postgres::Error| failed("migrating", error);
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(|e| migrating(&e))?;
    client
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS penstock;
             CREATE TABLE IF NOT EXISTS penstock.migrations (
                 version integer PRIMARY KEY, name text NOT NULL, needs integer NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT clock_timestamp())",
        )
        .await
        .map_err(|e| migrating(&e))?;
    let mut version = check(version_of(client).await.map_err(|e| migrating(&e))?)?;
    let mut done = Migrated::default();
    while let Some(step) = STEPS.get(version as usize) {
        version += 1;
        let transaction = client.transaction().await.map_err(|e| migrating(&e))?;
        let applied = async {
            transaction.batch_execute(step.sql).await?;
            let sql = "INSERT INTO penstock.migrations (version, name, needs) VALUES ($1, $2, $3)";
            transaction.execute(sql, &[&version, &step.name, &step.needs]).await?;
            transaction.commit().await
        };
        applied.await.map_err(|error| {
            StoreError::Unavailable(format!(
                "migrating, step {version} ({}): {}; nothing of this step was changed",
                step.name,
                text(&error)
            ))
        })?;
        done.steps.push(step.name);
    }
    done.version = version;
    partitions::make_ahead(client).await.map_err(|e| migrating(&e))?;
    Ok(done)
}

/// The number of the latest step, and the greatest `needs` of all.
async fn version_of(client: &Client) -> Result<(i32, i32), tokio_postgres::Error> {
    let sql = "SELECT coalesce(max(version), 0), coalesce(max(needs), 0) FROM penstock.migrations";
    let row = client.query_one(sql, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn check((version, needs): (i32, i32)) -> Result<i32, StoreError> {
    let ours = STEPS.len() as i32;
    if needs <= ours {
        return Ok(version);
    }
    Err(StoreError::Format(format!(
        "the database's schema has version {version}, and this program works with up to {ours}; use the newer \
         program. Nothing was changed"
    )))
}

/// The schema is one that this program works with.
pub(super) async fn verify(client: &Client) -> Result<(), StoreError> {
    let how = "run penstock-control migrate with the same PENSTOCK_DATABASE_URL";
    let version = match version_of(client).await {
        Ok(found) => check(found)?,
        Err(error) if is_missing(&error) => 0,
        Err(error) => return Err(failed("looking at the schema", &error)),
    };
    match (version as usize) < STEPS.len() {
        false => Ok(()),
        true if version == 0 => {
            Err(StoreError::Unavailable(format!("the database is not prepared: {how}")))
        }
        true => Err(StoreError::Unavailable(format!(
            "the database's schema is version {version} and must be {}: {how}",
            STEPS.len()
        ))),
    }
}

fn failed(doing: &str, error: &tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable(format!("{doing}: {}", text(error)))
}
