//! How rows leave: shipped, or set aside because the sink will never take them or they are not what was stored.

use super::Settings;
use super::row::COST;
use super::totals::Totals;
use crate::store::StoreError;
use crate::store::lite::file::sidecar;
use rusqlite::Connection;
use std::path::Path;

/// Free pages that are not worth the work of giving them back.
const SMALL_CHANGE: i64 = 64;

/// A log that is smaller is not cut when nothing waits.
const LOG_KEPT: u64 = 1 << 20;

/// Why rows leave.
#[derive(Debug, Clone)]
pub(super) enum How {
    Shipped,
    /// The sink's words.
    Refused(String),
    /// Their sum is wrong.
    Damaged,
}

/// Rows that leave: their numbers, and what they cost.
#[derive(Debug)]
pub(super) struct Leave {
    pub rows: Vec<(i64, u64)>,
    pub how: How,
}

/// Takes rows out of `waiting`. Those that are gone already count for nothing.
pub(super) fn out(
    connection: &Connection,
    totals: &mut Totals,
    rows: &[(i64, u64)],
    how: &How,
    now: i64,
    settings: &Settings,
) -> rusqlite::Result<Result<(), StoreError>> {
    let refused = matches!(how, How::Refused(_));
    if refused && totals.aside + rows.len() as i64 > settings.max_refused as i64 {
        return Ok(Err(StoreError::Full(format!(
            "{} events are set aside in the spool, and {} may; see what the store has against them",
            totals.aside, settings.max_refused
        ))));
    }
    let mut keep = connection.prepare_cached(
        "INSERT OR REPLACE INTO aside SELECT seq, event_id, user_id, product_id, kind, at_micros, source, \
         received_micros, sum, ?2, ?3, ?4 FROM waiting WHERE seq = ?1",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM waiting WHERE seq = ?1")?;
    for (seq, cost) in rows {
        let cost = match how {
            How::Damaged => cost_of(connection, *seq)?,
            _ => *cost as i64,
        };
        let kept = match how {
            How::Shipped => 0,
            How::Refused(reason) => keep.execute((seq, "refused", reason, now))?,
            How::Damaged => keep.execute((seq, "damaged", "its sum is wrong", now))?,
        } as i64;
        totals.aside += kept;
        totals.aside_bytes += kept * cost;
        let left = delete.execute([seq])? as i64;
        totals.waiting -= left;
        totals.bytes -= left * cost;
        *match how {
            How::Shipped => &mut totals.shipped,
            How::Refused(_) => &mut totals.refused,
            How::Damaged => &mut totals.damaged,
        } += left;
    }
    totals.find_first(connection)?;
    Ok(Ok(()))
}

/// Of a row that need not be what was stored.
fn cost_of(connection: &Connection, seq: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(&format!("SELECT coalesce(sum({COST}), 0) FROM waiting WHERE seq = ?1"))?
        .query_row([seq], |row| row.get(0))
}

/// Gives up to `most` free pages back to the disk; `empty`: nothing waits, so the log is cut, too, and all of them go.
pub(super) fn give_back(connection: &Connection, empty: bool, most: i64) {
    let given = || -> rusqlite::Result<bool> {
        let count =
            |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let (free, pages) = (count("freelist_count")?, count("page_count")?);
        if empty && log_of(connection) > LOG_KEPT {
            checkpoint(connection, "TRUNCATE");
        }
        if free <= SMALL_CHANGE || (!empty && free < pages / 4) {
            return Ok(false);
        }
        let some = if empty { free } else { free.min(most) };
        let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({some})"))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        Ok(true)
    };
    match given() {
        Ok(true) => checkpoint(connection, if empty { "TRUNCATE" } else { "PASSIVE" }),
        Ok(false) => {}
        // The pages are used again at least.
        Err(error) => tracing::warn!(%error, "cannot give the spool's free pages back"),
    }
}

fn log_of(connection: &Connection) -> u64 {
    let path = connection.path().map(|path| sidecar(Path::new(path), "-wal"));
    path.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |log| log.len())
}

/// Moves what is in the log into the file.
pub(super) fn checkpoint(connection: &Connection, mode: &str) {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    if let Err(error) = done {
        tracing::debug!(%error, mode, "the spool's log stays as it is");
    }
}
