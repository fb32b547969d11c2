//! A file itself: whose it is, how it is created, how it grows from version to version.
//!
//! Two processes may open the same path at the same moment, and either may be killed at any point.
//! So creating and migrating happen under a file lock (the kernel lets go of it when a process
//! dies), and a new file is built aside and renamed: it never exists half made.

use super::failed;
use crate::store::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a file of one sort is.
#[derive(Debug)]
pub(in crate::store) struct Layout {
    /// What it is called in messages: "the store".
    pub what: &'static str,
    /// In the file's header: it is ours.
    pub application_id: i32,
    /// Said to a new file before anything is in it.
    pub first: &'static str,
    /// One step per version, applied in order; a step that was released is never edited.
    pub steps: &'static [&'static str],
    /// The log is cut back to so many bytes when it begins anew.
    pub log_limit: u32,
}

/// Bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Bounds {
    /// How long a write waits for another process's write.
    pub busy_timeout: Duration,
    /// The file may not grow beyond this many pages; `None`: until the disk is full.
    pub max_pages: Option<u32>,
}

/// The absolute path of `path`, whose folder is there after this.
pub(in crate::store) fn place(path: &Path) -> Result<PathBuf, StoreError> {
    let path = std::path::absolute(path).map_err(|e| unavailable("find", path, &e))?;
    if path.to_str().is_none() {
        return Err(StoreError::Unavailable(format!("the path {} is not UTF-8", path.display())));
    }
    let folder = folder_of(&path);
    fs::create_dir_all(folder).map_err(|e| unavailable("create the folder", folder, &e))?;
    Ok(path)
}

impl Layout {
    /// Checks or creates the file at `path`, which is from [`place`], while its [`lock`] is held. After
    /// this, connections can be opened with [`Layout::connect`].
    pub(in crate::store) fn prepare(&self, path: &Path) -> Result<(), StoreError> {
        match fs::metadata(path) {
            Ok(found) if found.len() > 0 => {
                self.refuse_foreign(path)?;
                let mut connection = self.open(path)?;
                self.migrate(&mut connection)
            }
            // Absent, or an empty placeholder.
            Ok(_) => self.create(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.create(path),
            Err(e) => Err(unavailable("read", path, &e)),
        }
    }

    /// A connection to a prepared file.
    pub(in crate::store) fn connect(
        &self,
        path: &Path,
        bounds: Bounds,
    ) -> Result<Connection, StoreError> {
        let doing = failed(format!("opening {}", self.what));
        let connection = self.open(path)?;
        connection.busy_timeout(bounds.busy_timeout).map_err(&doing)?;
        if let Some(pages) = bounds.max_pages {
            connection
                .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
                .map_err(&doing)?;
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }

    /// The application id and the version in the header, looked at without taking a lock, making a sidecar file or
    /// changing a byte. Through SQLite, not through `File`: closing any other descriptor of the file would drop the
    /// locks that this process's connections hold (POSIX).
    ///
    /// Where there is a log, a checkpoint may be under way in another process, or have died: the header can
    /// then promise pages that are still in the log alone. That is no damage, so the size is not checked.
    pub(in crate::store) fn peek(path: &Path) -> rusqlite::Result<(i32, i32)> {
        let text = path.to_str().expect("checked in `place`");
        let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let connection = Connection::open_with_flags(
            format!("file:{escaped}?immutable=1"),
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
        )?;
        if fs::metadata(sidecar(path, "-wal")).is_ok_and(|log| log.len() > 0) {
            connection.execute_batch("PRAGMA writable_schema = ON")?;
        }
        Ok((pragma(&connection, "application_id")?, pragma(&connection, "user_version")?))
    }

    /// A file that is not ours is an error.
    pub(in crate::store) fn refuse_foreign(&self, path: &Path) -> Result<(), StoreError> {
        let text = path.display();
        match Self::peek(path) {
            Ok((id, version)) if id == self.application_id => self.refuse_newer(version),
            Ok(_) => Err(StoreError::Format(format!(
                "{text} is a database of another program; it was not touched. Choose another data folder"
            ))),
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
                Err(StoreError::Format(format!(
                    "{text} is not a database; it was not touched. Choose another data folder, or move \
                 the file away"
                )))
            }
            Err(e) => Err(failed(format!("looking at {}", self.what))(e)),
        }
    }

    fn refuse_newer(&self, version: i32) -> Result<(), StoreError> {
        let ours = self.steps.len();
        if usize::try_from(version).is_ok_and(|v| v <= ours) {
            return Ok(());
        }
        Err(StoreError::Format(format!(
            "{} has format {version}, this program knows up to {ours}; use the newer program. It was \
         not touched",
            self.what
        )))
    }

    fn create(&self, path: &Path) -> Result<(), StoreError> {
        let log = sidecar(path, "-wal");
        if fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
            return Err(StoreError::Format(format!(
                "{} is missing but its log {} is there: put it back, or move the log away",
                path.display(),
                log.display()
            )));
        }
        let new = path.with_extension("new");
        finish(self.begin(&new)?, &new, path)
    }

    /// An empty file aside, in place of what a killed process left there; nobody else is here while the lock
    /// is held. [`finish`] puts it where it belongs.
    pub(in crate::store) fn begin(&self, new: &Path) -> Result<Connection, StoreError> {
        for leftover in
            [new.to_owned(), sidecar(new, "-wal"), sidecar(new, "-shm"), sidecar(new, "-journal")]
        {
            match fs::remove_file(&leftover) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(unavailable("remove", &leftover, &e));
                }
                _ => {}
            }
        }
        let mut connection = self
            .open_flags(new, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        self.migrate(&mut connection)?;
        Ok(connection)
    }

    fn open(&self, path: &Path) -> Result<Connection, StoreError> {
        self.open_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_flags(&self, path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
        let doing = failed(format!("opening {}", self.what));
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(&doing)?;
        if flags.contains(OpenFlags::SQLITE_OPEN_CREATE) {
            connection.execute_batch(self.first).map_err(&doing)?;
        }
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(&doing)?;
        if mode != "wal" {
            return Err(StoreError::Unavailable(format!(
                "{} cannot use a write-ahead log (mode `{mode}`): the data folder must be on a local, \
                 writable disk",
                path.display()
            )));
        }
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;
                 PRAGMA journal_size_limit = {};",
                self.log_limit
            ))
            .map_err(&doing)?;
        Ok(connection)
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let doing = failed(format!("migrating {}", self.what));
        let version = pragma(connection, "user_version").map_err(&doing)?;
        self.refuse_newer(version)?;
        if version as usize == self.steps.len() {
            return Ok(());
        }
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(&doing)?;
        for step in &self.steps[version as usize..] {
            transaction.execute_batch(step).map_err(&doing)?;
        }
        transaction
            .execute_batch(&format!(
                "PRAGMA application_id = {}; PRAGMA user_version = {};",
                self.application_id,
                self.steps.len()
            ))
            .map_err(&doing)?;
        transaction.commit().map_err(&doing)
    }
}

/// Closes what [`Layout::begin`] began and renames it, durably.
pub(in crate::store) fn finish(
    connection: Connection,
    new: &Path,
    path: &Path,
) -> Result<(), StoreError> {
    // Closing the only connection moves the log into the file and removes the log.
    connection.close().map_err(|(_, e)| failed(format!("creating {}", path.display()))(e))?;
    let synced = File::open(new)
        .and_then(|f| f.sync_all())
        .and_then(|()| fs::rename(new, path))
        .and_then(|()| sync_folder(path));
    synced.map_err(|e| unavailable("create", path, &e))
}

/// Makes the names in the folder of `path` durable.
pub(in crate::store) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Holds off other processes that create, migrate, stage or sweep. Released on drop and on death.
pub(in crate::store) fn lock(path: &Path) -> Result<File, StoreError> {
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

pub(in crate::store) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

pub(in crate::store) fn unavailable(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot {doing} {}: {error}", path.display()))
}

pub(in crate::store) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i32> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// The file beside `path` with `suffix` after its name.
pub(in crate::store) fn sidecar(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
