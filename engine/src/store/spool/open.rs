//! Opening: whose the file is, whether it is whole, and what to do when it is not.
//!
//! Beside the spool lie `spool.lock`, held while a process opens, and `spool.users`, held by all who have it open:
//! only who is alone may look behind SQLite's back, count anew or replace the file.

use super::Settings;
use super::file::{LAYOUT, connect, failed, is_damage};
use super::reserve::Reserve;
use super::row::{Row, SALVAGE};
use super::salvage;
use super::totals::Totals;
use super::wal::{self, Which};
use crate::store::StoreError;
use crate::store::lite::file::{Layout, lock, place, pragma, sidecar, unavailable};
use crossbeam_channel::{RecvTimeoutError, bounded};
use penstock_config::clock::Clock;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No file of SQLite's is smaller.
const SMALLEST: u64 = 512;

/// A spool that is whole.
pub(super) struct Opened {
    pub path: PathBuf,
    pub users: File,
    pub side: Connection,
    pub totals: Totals,
}

/// Opens the spool at `path`.
pub(super) fn open(
    path: &Path,
    settings: &Settings,
    clock: &dyn Clock,
) -> Result<Opened, StoreError> {
    let path = place(path)?;
    let _guard = lock(&path)?;
    let name = path.with_extension("users");
    let users = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| unavailable("create", &name, &e))?;
    let alone = match users.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(e)) => return Err(unavailable("lock", &name, &e)),
    };
    let opened = match whole(&path, settings, clock, alone) {
        // The disk may be full because of us: shipping must be possible.
        Err(StoreError::Full(_)) => {
            Reserve::of(&path, settings.reserve_bytes).release();
            whole(&path, settings, clock, alone)
        }
        other => other,
    };
    let (side, totals) = opened?;
    // Nobody can be alone in between: the guard is held.
    users.lock_shared().map_err(|e| unavailable("lock", &name, &e))?;
    Ok(Opened { path, users, side, totals })
}

/// Sees to it that the spool is whole.
fn whole(
    path: &Path,
    settings: &Settings,
    clock: &dyn Clock,
    alone: bool,
) -> Result<(Connection, Totals), StoreError> {
    if alone {
        salvage::resume(path, clock)?;
    }
    let log = sidecar(path, "-wal");
    // Before SQLite opens the file: it throws away what it does not read.
    let rest = if alone {
        wal::rows(&log, Which::Rest).map_err(|e| unavailable("read", &log, &e))?.rows
    } else {
        Vec::new()
    };
    if let Some(why) = examine(path, settings)? {
        if !alone {
            return Err(StoreError::Unavailable(format!(
                "{} is damaged ({why}), and another process has it open; stop that one first",
                path.display()
            )));
        }
        salvage::salvage(path, &why, clock)?;
    }
    LAYOUT.prepare(path)?;
    ready(path, settings, alone, &rest)
}

fn ready(
    path: &Path,
    settings: &Settings,
    alone: bool,
    rest: &[Row],
) -> Result<(Connection, Totals), StoreError> {
    let doing = failed("opening the spool");
    let mut side = connect(path, settings)?;
    if alone {
        let transaction =
            side.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&doing)?;
        let mut insert = transaction.prepare_cached(SALVAGE).map_err(&doing)?;
        let mut saved = 0_u64;
        for row in rest {
            saved += u64::from(row.insert(&mut insert).map_err(&doing)?);
        }
        drop(insert);
        let mut totals = Totals::load(&transaction).map_err(&doing)?;
        let before = totals;
        totals.recount(&transaction).map_err(&doing)?;
        if totals != before {
            totals.save(&transaction).map_err(&doing)?;
        }
        transaction.commit().map_err(&doing)?;
        if saved > 0 {
            tracing::warn!(events = saved, "events were found behind the end of the spool's log");
        }
    }
    let totals = Totals::load(&side).map_err(&doing)?;
    Ok((side, totals))
}

/// What is wrong with it. `None`: it is whole, as far as can be seen, or there is none. Leaves every byte as it is.
fn examine(path: &Path, settings: &Settings) -> Result<Option<String>, StoreError> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        // What to do about it is known where it is created.
        Err(_) => return Ok(None),
    };
    if size == 0 && fs::metadata(sidecar(path, "-wal")).map_or(0, |log| log.len()) == 0 {
        return Ok(None);
    }
    if size < SMALLEST {
        return Ok(Some(format!("it has {size} bytes")));
    }
    match Layout::peek(path) {
        Ok(_) => LAYOUT.refuse_foreign(path)?,
        Err(error) if is_damage(&error) => return Ok(Some(error.to_string())),
        Err(error) => return Err(failed("looking at the spool")(error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opening = failed("opening the spool");
    let connection = Connection::open_with_flags(path, flags).map_err(&opening)?;
    connection.busy_timeout(settings.busy_timeout).map_err(&opening)?;
    let checked = check(&connection, settings.check).and_then(|said| match &*said {
        "ok" => Totals::load(&connection).and_then(|_| as_made(&connection)),
        _ => Ok(Some(said)),
    });
    match checked {
        Ok(why) => Ok(why),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::warn!(after = ?settings.check, "looking for damage in the spool took too long");
            Ok(None)
        }
        Err(error) if is_of_the_disk(&error) => {
            Err(failed("looking for damage in the spool")(error))
        }
        Err(error) => Ok(Some(error.to_string())),
    }
}

/// Says nothing about what is in the file.
fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied,
        ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

/// What is wrong with the tables: SQLite takes any text that is SQL for what they are.
fn as_made(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let schema = |connection: &Connection| {
        let mut statement = connection
            .prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            let text = |at| row.get::<_, Option<String>>(at);
            Ok([text(0)?, text(1)?, text(2)?, text(3)?])
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let version = pragma(connection, "user_version")?.max(0) as usize;
    let made = Connection::open_in_memory()?;
    for step in LAYOUT.steps.iter().take(version) {
        made.execute_batch(step)?;
    }
    let same = schema(connection)? == schema(&made)?;
    Ok((!same).then(|| "its tables are not as they were made".into()))
}

/// SQLite's own check of the pages, `ok` or what is wrong, within `limit`.
fn check(connection: &Connection, limit: Duration) -> rusqlite::Result<String> {
    // A damaged file is moved aside as it is.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let interrupt = connection.get_interrupt_handle();
    let (checked, end) = bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        drop(checked);
        said
    })
}
