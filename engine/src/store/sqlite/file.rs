//! The file itself: whose it is, how it is created, how it grows from version to version.
//!
//! Two processes may open the same path at the same moment, and either may be killed at any point.
//! So creating and migrating happen under a file lock (the kernel lets go of it when a process
//! dies), and a new store is built aside and renamed: `store.sqlite` never exists half made.

use super::{Settings, failed};
use crate::store::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// "PNST" in the file's header: it is ours.
const APPLICATION_ID: i32 = 0x504E_5354;

/// One step per version, applied in order; a step that was released is never edited.
const MIGRATIONS: &[&str] = &[
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
    let path = std::path::absolute(path).map_err(|e| unavailable("find", path, &e))?;
    if path.to_str().is_none() {
        return Err(StoreError::Unavailable(format!("the path {} is not UTF-8", path.display())));
    }
    let folder = folder_of(&path);
    fs::create_dir_all(folder).map_err(|e| unavailable("create the folder", folder, &e))?;
    let _guard = lock(&path)?;
    match fs::metadata(&path) {
        Ok(found) if found.len() > 0 => {
            refuse_foreign(&path)?;
            let mut connection = open(&path)?;
            migrate(&mut connection)?;
        }
        // Absent, or an empty placeholder.
        Ok(_) => create(&path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(&path)?,
        Err(e) => return Err(unavailable("read", &path, &e)),
    }
    Ok(path)
}

/// A connection to a prepared store.
pub(super) fn connect(path: &Path, settings: &Settings) -> Result<Connection, StoreError> {
    let doing = failed("opening the store");
    let connection = open(path)?;
    connection.busy_timeout(settings.busy_timeout).map_err(&doing)?;
    if let Some(pages) = settings.max_pages {
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .map_err(&doing)?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Holds off other processes that create, migrate, stage or sweep. Released on drop and on death.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let name = path.with_extension("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| unavailable("create", &name, &e))?;
    file.lock().map_err(|e| unavailable("lock", &name, &e))?;
    Ok(file)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

pub(super) fn unavailable(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot {doing} {}: {error}", path.display()))
}

/// Looks at the header without taking a lock, making a sidecar file or changing a byte. Through
/// SQLite, not through `File`: closing any other descriptor of the file would drop the locks that
/// this process's connections hold (POSIX).
///
/// Where there is a log, a checkpoint may be under way in another process, or have died: the header can
/// then promise pages that are still in the log alone. That is no damage, so the size is not checked.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    let text = path.to_str().expect("checked in `prepare`");
    let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let peek = Connection::open_with_flags(
        format!("file:{escaped}?immutable=1"),
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
    )
    .and_then(|c| {
        if fs::metadata(sidecar(path, "-wal")).is_ok_and(|log| log.len() > 0) {
            c.execute_batch("PRAGMA writable_schema = ON")?;
        }
        Ok(c)
    })
    .and_then(|c| Ok((pragma(&c, "application_id")?, pragma(&c, "user_version")?)));
    match peek {
        Ok((APPLICATION_ID, version)) => refuse_newer(version),
        Ok(_) => Err(StoreError::Format(format!(
            "{text} is a database of another program; it was not touched. Choose another data folder"
        ))),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(StoreError::Format(format!(
                "{text} is not a database; it was not touched. Choose another data folder, or move \
                 the file away"
            )))
        }
        Err(e) => Err(failed("looking at the store")(e)),
    }
}

fn refuse_newer(version: i32) -> Result<(), StoreError> {
    let ours = MIGRATIONS.len();
    if usize::try_from(version).is_ok_and(|v| v <= ours) {
        return Ok(());
    }
    Err(StoreError::Format(format!(
        "the store has format {version}, this program knows up to {ours}; use the newer program. \
         The store was not touched"
    )))
}

fn create(path: &Path) -> Result<(), StoreError> {
    let log = sidecar(path, "-wal");
    if fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
        return Err(StoreError::Format(format!(
            "{} is missing but its log {} is there: put the store back, or move the log away",
            path.display(),
            log.display()
        )));
    }
    let new = path.with_extension("new");
    // What a killed process left; nobody else is here while the lock is held.
    for leftover in
        [new.clone(), sidecar(&new, "-wal"), sidecar(&new, "-shm"), sidecar(&new, "-journal")]
    {
        match fs::remove_file(&leftover) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(unavailable("remove", &leftover, &e));
            }
            _ => {}
        }
    }
    let mut connection = open_or_create(&new)?;
    migrate(&mut connection)?;
    // Closing the only connection moves the log into the file and removes the log.
    connection.close().map_err(|(_, e)| failed("creating the store")(e))?;
    let synced = File::open(&new)
        .and_then(|f| f.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| File::open(folder_of(path)))
        .and_then(|folder| folder.sync_all());
    synced.map_err(|e| unavailable("create", path, &e))
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    open_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn open_or_create(path: &Path) -> Result<Connection, StoreError> {
    open_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
}

fn open_flags(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let doing = failed("opening the store");
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(&doing)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(&doing)?;
    if mode != "wal" {
        return Err(StoreError::Unavailable(format!(
            "{} cannot use a write-ahead log (mode `{mode}`): the data folder must be on a local, \
             writable disk",
            path.display()
        )));
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;
             PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(&doing)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let doing = failed("migrating the store");
    let version = pragma(connection, "user_version").map_err(&doing)?;
    refuse_newer(version)?;
    if version as usize == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(&doing)?;
    for step in &MIGRATIONS[version as usize..] {
        transaction.execute_batch(step).map_err(&doing)?;
    }
    transaction
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};",
            MIGRATIONS.len()
        ))
        .map_err(&doing)?;
    transaction.commit().map_err(&doing)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i32> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn sidecar(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
