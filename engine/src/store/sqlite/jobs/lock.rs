//! Locks of one machine: files beside the store. The kernel lets go of them when their process dies.

use super::super::file::{folder_of, unavailable};
use crate::store::StoreError;
use crate::store::jobs::Lock;
use std::fs::{File, TryLockError};
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
    let path = folder_of(store).join(format!("jobs-{name}.lock"));
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|e| unavailable("create", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Box::new(Held { _file: file }))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(unavailable("lock", &path, &e)),
    }
}
