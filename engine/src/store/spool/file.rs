//! What is in the file, and the names beside it.

use super::Settings;
use crate::store::StoreError;
use crate::store::lite::failed as lite_failed;
use crate::store::lite::file::{Bounds, Layout};
use rusqlite::{Connection, ErrorCode};
use std::path::Path;

/// The spool's folder inside a data folder.
pub const FOLDER: &str = "spool";

/// The spool's file inside its folder.
pub const FILE_NAME: &str = "spool.sqlite";

/// Every file of ours has pages of this size, which is SQLite's own choice.
pub(super) const PAGE: usize = 4096;

pub(super) const LAYOUT: Layout = Layout {
    what: "the spool",
    // "PNSP"
    application_id: 0x504E_5350,
    first: "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;",
    steps: STEPS,
    log_limit: 16 << 20,
};

/// `seq` is the order of acknowledgement and never given twice; `sum` is of the whole row, because SQLite's pages
/// have none. `aside` takes rows as they are, readable or not. `totals` is always right because it is written with what
/// it counts.
const STEPS: &[&str] = &["
    CREATE TABLE waiting (
        seq             INTEGER PRIMARY KEY NOT NULL,
        event_id        TEXT NOT NULL UNIQUE,
        user_id         TEXT NOT NULL,
        product_id      TEXT NOT NULL,
        kind            INTEGER NOT NULL,
        at_micros       INTEGER NOT NULL,
        source          TEXT NOT NULL,
        received_micros INTEGER NOT NULL,
        sum             INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX waiting_by_user ON waiting (user_id, at_micros DESC);
    CREATE TABLE aside (
        seq             INTEGER PRIMARY KEY NOT NULL,
        event_id        ANY,
        user_id         ANY,
        product_id      ANY,
        kind            ANY,
        at_micros       ANY,
        source          ANY,
        received_micros ANY,
        sum             ANY,
        why             TEXT NOT NULL,
        reason          TEXT NOT NULL,
        aside_micros    INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE totals (
        one         INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
        change      INTEGER NOT NULL DEFAULT 0,
        first       INTEGER NOT NULL DEFAULT 1,
        last        INTEGER NOT NULL DEFAULT 0,
        oldest      INTEGER NOT NULL DEFAULT 0,
        waiting     INTEGER NOT NULL DEFAULT 0,
        bytes       INTEGER NOT NULL DEFAULT 0,
        aside       INTEGER NOT NULL DEFAULT 0,
        aside_bytes INTEGER NOT NULL DEFAULT 0,
        shipped     INTEGER NOT NULL DEFAULT 0,
        refused     INTEGER NOT NULL DEFAULT 0,
        damaged     INTEGER NOT NULL DEFAULT 0,
        files       INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO totals (one) VALUES (1);
"];

/// A connection to a spool that was opened by [`super::open`].
pub(super) fn connect(path: &Path, settings: &Settings) -> Result<Connection, StoreError> {
    let bounds = Bounds { busy_timeout: settings.busy_timeout, max_pages: settings.max_pages };
    let connection = LAYOUT.connect(path, bounds)?;
    // On a full disk the log has to find its place in the file with the help of the reserve alone.
    let pages = (settings.reserve_bytes / 8 / PAGE as u64).clamp(16, 1_000);
    connection
        .query_row(&format!("PRAGMA wal_autocheckpoint = {pages}"), [], |_| Ok(()))
        .map_err(failed("opening the spool"))?;
    Ok(connection)
}

/// An SQLite error as ours. Damage is not `Format`: it is no fault of an event, and salvaged at the next start.
pub(super) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| {
        if is_damage(&error) {
            return StoreError::Unavailable(format!(
                "{doing}: the spool is damaged ({error}); start Penstock again, which salvages what can be read"
            ));
        }
        if is_full(&error) {
            return StoreError::Full(format!("the disk is full ({error}); nothing was stored"));
        }
        lite_failed(doing)(error)
    }
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// No space left, also where the index of the log could not grow.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error
            .sqlite_error()
            .is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
