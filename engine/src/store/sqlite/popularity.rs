//! What jobs made, as others read it.

use crate::catalog::Ordinal;
use crate::store::PopularityMade;
use rusqlite::{Connection, OptionalExtension};
use std::time::Duration;

/// What the job `popularity` made last.
pub(super) fn made(connection: &Connection) -> rusqlite::Result<Option<PopularityMade>> {
    let sql = "SELECT state->>'number', state->>'newest_micros', state->>'half_life_seconds'
        FROM job_state WHERE job = 'popularity'";
    let made = connection.query_row(sql, [], |row| {
        let (number, half_life): (i64, f64) = (row.get(0)?, row.get(2)?);
        Ok(PopularityMade {
            number: number.unsigned_abs(),
            newest_micros: row.get(1)?,
            half_life: Duration::try_from_secs_f64(half_life).unwrap_or(Duration::MAX),
        })
    });
    made.optional()
}

/// The scores of products of the catalogue.
pub(super) fn scan(
    connection: &Connection,
    each: &mut dyn FnMut(Ordinal, f64),
) -> rusqlite::Result<()> {
    let sql = "SELECT ordinal, score FROM popularity JOIN products ON id = product_id WHERE score IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(Ordinal(row.get(0)?), row.get(1)?);
    }
    Ok(())
}

/// How often jobs stored features of users.
pub(super) fn features_number(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = 'features_number'";
    let number = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?;
    Ok(number.map_or(0, i64::unsigned_abs))
}
