//! The file itself: what is in it. How it is created, checked and opened is in [`crate::store::lite`].

use super::Settings;
use crate::store::StoreError;
use crate::store::lite::file::{Bounds, Layout, lock, place};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

const LAYOUT: Layout = Layout {
    what: "the store",
    // "PNST"
    application_id: 0x504E_5354,
    first: "",
    steps: STEPS,
    log_limit: 64 << 20,
};

const STEPS: &[&str] = &[
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('store_id', lower(hex(randomblob(16)))), ('catalog_revision', 0);
    CREATE TABLE products (
        ordinal     INTEGER PRIMARY KEY AUTOINCREMENT,
        id          TEXT NOT NULL UNIQUE,
        name        TEXT NOT NULL,
        description TEXT NOT NULL,
        category    TEXT NOT NULL,
        brand       TEXT NOT NULL,
        price       REAL,
        created_at  INTEGER,
        popularity  REAL
    ) STRICT;
    CREATE TABLE events (
        event_id    TEXT NOT NULL UNIQUE,
        user_id     TEXT NOT NULL,
        product_id  TEXT NOT NULL,
        kind        INTEGER NOT NULL,
        at_micros   INTEGER NOT NULL,
        source      TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_user ON events (user_id, at_micros DESC);
    CREATE INDEX events_by_time ON events (at_micros);
",
    "
    CREATE TABLE product_changes (
        number      INTEGER PRIMARY KEY,
        revision    INTEGER NOT NULL,
        ordinal     INTEGER NOT NULL,
        id          TEXT NOT NULL
    ) STRICT;
    CREATE INDEX product_changes_by_revision ON product_changes (revision);
    INSERT INTO meta SELECT 'changes_from', value FROM meta WHERE name = 'catalog_revision';
",
    "
    CREATE TABLE IF NOT EXISTS popularity (
        product_id    TEXT PRIMARY KEY NOT NULL,
        score         REAL,
        newest_micros INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS feature_values (
        entity    TEXT NOT NULL,
        name      TEXT NOT NULL,
        entity_id TEXT NOT NULL,
        version   INTEGER NOT NULL,
        value     TEXT NOT NULL,
        PRIMARY KEY (entity, name, entity_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS job_state (job TEXT PRIMARY KEY NOT NULL, state TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS job_runs (
        id              INTEGER PRIMARY KEY AUTOINCREMENT,
        job             TEXT NOT NULL,
        instance        TEXT NOT NULL,
        started_micros  INTEGER NOT NULL,
        finished_micros INTEGER,
        outcome         TEXT,
        detail          TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS job_runs_by_job ON job_runs (job, id);
",
];

/// Checks or creates the store at `path`; gives its absolute path. After this, connections can be
/// opened with [`connect`].
pub(super) fn prepare(path: &Path) -> Result<PathBuf, StoreError> {
    let path = place(path)?;
    let _guard = lock(&path)?;
    LAYOUT.prepare(&path)?;
    Ok(path)
}

/// A connection to a prepared store.
pub(super) fn connect(path: &Path, settings: &Settings) -> Result<Connection, StoreError> {
    let bounds = Bounds { busy_timeout: settings.busy_timeout, max_pages: settings.max_pages };
    LAYOUT.connect(path, bounds)
}
