//! Locks of one machine: files beside the store. The kernel lets go of them when their process dies.

use crate::store::StoreError;
use crate::store::jobs::Lock;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Kept open for as long as the lock is held.
struct Held {
    _file: File,
}

impl Lock for Held {
    fn is_held(&self) -> bool {
        true
    }
}

pub(super) fn take(store: &Path, name: &str) -> Result<Option<Box<dyn Lock>>, StoreError> {
    let path = store.with_file_name(format!("jobs-{name}.lock"));
    let failed = |doing: &str, error: io::Error| {
        StoreError::Unavailable(format!("cannot {doing} {}: {error}", path.display()))
    };
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| failed("create", error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Box::new(Held { _file: file }))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed("lock", error)),
    }
}
