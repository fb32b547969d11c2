//! What the embedded store and the spool share: SQLite files of ours, a writer thread with group commit.

pub(super) mod file;
pub(super) mod group;
pub(super) mod kinds;

use super::StoreError;

/// Turns an SQLite error into ours: damage is `Format`, everything else `Unavailable`.
pub(super) fn failed(doing: impl std::fmt::Display) -> impl Fn(rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly};
    move |error| match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Format(format!(
            "{doing}: the file is damaged ({error}); restore it from a backup, or move it away and \
             import again"
        )),
        Some(DiskFull) => StoreError::Unavailable(format!(
            "{doing}: the disk is full ({error}); nothing was changed"
        )),
        Some(ReadOnly) => StoreError::Unavailable(format!(
            "{doing}: the disk or the file is read-only ({error}); nothing was changed"
        )),
        _ => StoreError::Unavailable(format!("{doing}: {error}")),
    }
}

/// A thread is gone that should live as long as its handle.
pub(super) fn ended(thread: &str) -> StoreError {
    StoreError::Unavailable(format!("the store's {thread} thread has ended"))
}
