//! The folders in which imports keep their rows until they commit: `staging-<pid>-<number>` next to
//! the store, each with a lock file that its import holds. When the lock can be taken, the import
//! is dead (a process id alone would lie: ids are reused, and containers each count their own), and
//! the folder is swept at the next open or import.

use crate::store::StoreError;
use crate::store::lite::file::{folder_of, lock, unavailable};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "staging-";
const LOCK: &str = "lock";

/// One import's folder. Removed on drop.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    _held: File,
}

impl Staging {
    /// Makes a folder beside the store at `store`.
    pub(super) fn create(store: &Path) -> Result<Self, StoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let _guard = lock(store)?;
        let folder = loop {
            let folder = folder_of(store).join(format!(
                "{PREFIX}{}-{}",
                std::process::id(),
                NUMBER.fetch_add(1, Ordering::Relaxed)
            ));
            match fs::create_dir(&folder) {
                Ok(()) => break folder,
                // A live import in another container has our process id.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(unavailable("create", &folder, &e)),
            }
        };
        let name = folder.join(LOCK);
        let held = File::create(&name).map_err(|e| unavailable("create", &name, &e))?;
        held.lock().map_err(|e| unavailable("lock", &name, &e))?;
        Ok(Self { folder, _held: held })
    }

    /// Where the rows are.
    pub(super) fn rows(&self) -> PathBuf {
        self.folder.join("rows.sqlite")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "staging folder stays behind");
        }
    }
}

/// Removes the folders of dead imports.
pub(super) fn sweep(store: &Path) -> Result<(), StoreError> {
    // While this is held no folder is between its creation and its lock.
    let _guard = lock(store)?;
    let parent = folder_of(store);
    let entries = fs::read_dir(parent).map_err(|e| unavailable("list", parent, &e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) || alive(&entry.path()) {
            continue;
        }
        match fs::remove_dir_all(entry.path()) {
            Ok(()) => {
                tracing::info!(folder = %entry.path().display(), "removed a dead import's rows")
            }
            Err(error) => {
                tracing::warn!(folder = %entry.path().display(), %error, "cannot remove");
            }
        }
    }
    Ok(())
}

fn alive(folder: &Path) -> bool {
    match File::options().write(true).open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_err(),
        Err(_) => false,
    }
}
