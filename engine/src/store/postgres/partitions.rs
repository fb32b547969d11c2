//! Events by month: months to come are made ahead, old ones are retired.
//!
//! What has no month lies in `events_other`: what happened long ago, and what would happen further ahead than months
//! were made. When a month is made, its events move there from it.

use time::{Date, Month, OffsetDateTime};
use tokio_postgres::{Client, Error, Transaction};

/// Months made beyond the current one.
const AHEAD: u32 = 3;
/// Whoever makes or retires months holds this advisory lock.
const LOCK: i64 = 0x504E_5354_4D4F_4E54;

/// A month's first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FirstDay(Date);

impl FirstDay {
    /// Of the month of a moment, microseconds since 1970; `None` beyond the years a date has.
    pub fn of(micros: i64) -> Option<Self> {
        let moment = OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000)).ok()?;
        Some(Self(moment.date().replace_day(1).ok()?))
    }

    pub fn next(self) -> Option<Self> {
        let (year, month) = (self.0.year(), self.0.month());
        let year = if month == Month::December { year + 1 } else { year };
        Date::from_calendar_date(year, month.next(), 1).ok().map(Self)
    }

    fn back(self, months: u32) -> Option<Self> {
        let count = self.0.year() * 12 + i32::from(u8::from(self.0.month())) - 1 - months as i32;
        let month = Month::try_from(count.rem_euclid(12) as u8 + 1).ok()?;
        Date::from_calendar_date(count.div_euclid(12), month, 1).ok().map(Self)
    }

    fn table(self) -> String {
        format!("events_{:04}_{:02}", self.0.year(), u8::from(self.0.month()))
    }

    fn sql(self) -> String {
        format!("'{:04}-{:02}-01 00:00:00+00'", self.0.year(), u8::from(self.0.month()))
    }
}

/// Makes the current month and the next ones, where they are missing.
pub(super) async fn make_ahead(client: &mut Client) -> Result<(), Error> {
    let micros = server_now(client).await?;
    let mut months = Vec::new();
    let mut month = FirstDay::of(micros);
    for _ in 0..=AHEAD {
        months.extend(month);
        month = month.and_then(FirstDay::next);
    }
    make(client, &months).await
}

/// The time as the server has it, microseconds since 1970.
async fn server_now(client: &Client) -> Result<i64, Error> {
    let now: std::time::SystemTime = client.query_one("SELECT now()", &[]).await?.try_get(0)?;
    Ok(now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64))
}

/// Makes these months, where they are missing.
pub(super) async fn make(client: &mut Client, months: &[FirstDay]) -> Result<(), Error> {
    for month in months {
        // Asked first without a lock: it is there almost always.
        if exists(client, *month).await? {
            continue;
        }
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let sql = "SELECT to_regclass('penstock.' || $1) IS NOT NULL";
        if !transaction.query_one(sql, &[&month.table()]).await?.try_get::<_, bool>(0)? {
            make_one(&transaction, *month).await?;
            tracing::info!(month = month.table(), "a month for events was made");
        }
        transaction.commit().await?;
    }
    Ok(())
}

async fn exists(client: &Client, month: FirstDay) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('penstock.' || $1) IS NOT NULL";
    client.query_one(sql, &[&month.table()]).await?.try_get(0)
}

/// Its events in `events_other` move into it. While that is done new ones of this month wait.
async fn make_one(transaction: &Transaction<'_>, month: FirstDay) -> Result<(), Error> {
    let Some(next) = month.next() else { return Ok(()) };
    let (table, from, to) = (month.table(), month.sql(), next.sql());
    transaction
        .batch_execute(&format!(
            // Whoever asks for events waits behind us while we wait for a long reader: rather give up and come again.
            "SET LOCAL lock_timeout = '2s';
             LOCK TABLE penstock.events IN ACCESS EXCLUSIVE MODE;
             CREATE TABLE penstock.{table} (LIKE penstock.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
             WITH moved AS (DELETE FROM penstock.events_other
                            WHERE \"timestamp\" >= {from} AND \"timestamp\" < {to} RETURNING *)
             INSERT INTO penstock.{table} SELECT * FROM moved;
             ALTER TABLE penstock.events ATTACH PARTITION penstock.{table} FOR VALUES FROM ({from}) TO ({to})"
        ))
        .await
}

/// Drops whole months before the last `keep` (the current one not counted), and what else is older. Gives the names
/// of the tables dropped.
pub(super) async fn retire(
    client: &mut Client,
    now_micros: i64,
    keep: u32,
) -> Result<Vec<String>, Error> {
    // A clock that is ahead must not cost a month: of the two that know the time the earlier one is believed.
    let now = now_micros.min(server_now(client).await?);
    let Some(oldest) = FirstDay::of(now).and_then(|month| month.back(keep)) else {
        return Ok(Vec::new());
    };
    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'penstock.events'::regclass AND c.relname ~ '^events_[0-9]{4}_[0-9]{2}$'
                 AND c.relname < $1 ORDER BY 1";
    let rows = client.query(sql, &[&oldest.table()]).await?;
    let tables: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction.batch_execute("SET LOCAL lock_timeout = '2s'").await?;
    for table in &tables {
        transaction.batch_execute(&format!("DROP TABLE IF EXISTS penstock.{table}")).await?;
    }
    // Deleting what is left takes long, and the locks of the tables above keep everybody from events.
    transaction.commit().await?;
    tracing::info!(?tables, "months of events were retired");
    let old = oldest.sql();
    client
        .batch_execute(&format!(
            "DELETE FROM penstock.events_other WHERE \"timestamp\" < {old};
             DELETE FROM penstock.event_ids WHERE \"timestamp\" < {old}"
        ))
        .await?;
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_names_and_neighbours() {
        let month = FirstDay::of(1_735_689_599_000_000).unwrap(); // the last second of 2024
        assert_eq!(month.table(), "events_2024_12");
        assert_eq!(month.next().unwrap().sql(), "'2025-01-01 00:00:00+00'");
        assert_eq!(month.back(12).unwrap().table(), "events_2023_12");
        assert_eq!(month.back(0).unwrap(), month);
        assert_eq!(FirstDay::of(-1).unwrap().table(), "events_1969_12");
    }
}
