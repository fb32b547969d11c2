//! The steps of a publication, each of which may be the last before a `kill -9`.

use super::PublishError;
use super::history::{self, Files, Meta, digest};
use crate::disk;
use crate::policy::FileSet;
use crate::read::MAX_FILE_BYTES;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Holds a committed publication until its files are in their place.
const PENDING: &str = ".pending";
const LOCK: &str = ".lock";
const STAGED: &str = ".staged";

/// A publication takes milliseconds; one that takes this long is stuck.
const LOCK_ATTEMPTS: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// The right to write into a policy folder; given back on drop, and by the kernel when we die.
pub(super) struct Lock {
    dir: PathBuf,
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread is just starting has a copy of the
        // open file until it runs its own program.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Waits a few seconds for another publisher.
    pub(super) fn take(dir: &Path) -> Result<Self, PublishError> {
        for _ in 0..LOCK_ATTEMPTS {
            match Self::try_take(dir) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => std::thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(PublishError::disk("locking the policy folder")(error)),
            }
        }
        Err(PublishError::Busy)
    }

    /// `None`: somebody else has it.
    fn try_take(dir: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(dir.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { dir: dir.to_owned(), file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    fn staged(&self) -> PathBuf {
        self.dir.join(STAGED)
    }

    fn pending(&self) -> PathBuf {
        self.dir.join(PENDING)
    }

    fn history(&self) -> PathBuf {
        self.dir.join(history::FOLDER)
    }
}

/// Writes a version and commits to it with one rename.
pub(super) fn commit(lock: &Lock, meta: &Meta, files: &FileSet) -> io::Result<()> {
    stage(lock, meta, files)?;
    fs::rename(lock.staged(), lock.pending())?;
    disk::sync_folder(&lock.dir)
}

/// Writes a version that is in force already into the history.
pub(super) fn record(lock: &Lock, meta: &Meta, files: &FileSet) -> io::Result<()> {
    stage(lock, meta, files)?;
    file_away(lock, &lock.staged(), meta)
}

fn stage(lock: &Lock, meta: &Meta, files: &FileSet) -> io::Result<()> {
    let staged = lock.staged();
    // Left by a publisher that was killed: the lock says that nobody is writing it.
    remove_folder(&staged)?;
    let written = history::write(&staged, meta, files);
    if written.is_err() {
        // A full disk gets its room back.
        let _ = remove_folder(&staged);
    }
    written
}

fn file_away(lock: &Lock, folder: &Path, meta: &Meta) -> io::Result<()> {
    let history = lock.history();
    if !history.is_dir() {
        fs::create_dir(&history)?;
        disk::sync_folder(&lock.dir)?;
    }
    fs::rename(folder, history.join(meta.folder_name()))?;
    disk::sync_folder(&history)?;
    disk::sync_folder(&lock.dir)
}

/// Brings the files of a committed publication into their place and files it away. Nothing to do
/// is fine; so is doing it twice.
pub(super) fn finish_pending(lock: &Lock) -> io::Result<()> {
    let pending = lock.pending();
    if !pending.is_dir() {
        return Ok(());
    }
    let (meta, files) = history::read(&pending)?;
    for (name, content) in &files {
        place(lock, &meta, name, content.as_deref())?;
    }
    file_away(lock, &pending, &meta)
}

fn place(lock: &Lock, meta: &Meta, name: &str, content: Option<&[u8]>) -> io::Result<()> {
    let path = disk::behind_links(&lock.dir.join(name));
    let present = match disk::read_bounded(&path, MAX_FILE_BYTES) {
        Ok(present) => Some(present),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if present.as_deref() == content {
        return Ok(());
    }
    let replaced = meta.base.get(name).cloned().flatten();
    if present.as_deref().map(digest) != replaced {
        // Somebody edited it by hand after the commit; that is newer than what we bring.
        tracing::warn!(file = name, "edited while a publication was unfinished: edit kept");
        return Ok(());
    }
    match content {
        Some(content) => disk::replace(&path, content),
        None => fs::remove_file(&path).and_then(|()| disk::sync_folder(disk::folder_of(&path))),
    }
}

/// Finishes the publication of a publisher that died, if there is one and we may write. A
/// publisher that lives keeps the lock and finishes its own.
pub(crate) fn recover(dir: &Path) {
    if !dir.join(PENDING).is_dir() {
        return;
    }
    let recovered = match Lock::try_take(dir) {
        Ok(Some(lock)) => finish_pending(&lock),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = recovered {
        tracing::debug!(%error, "an unfinished publication is left as it is");
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where publications stand, as a reader sees it: two equal moments with nothing pending mean
/// that none began, went on or ended in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Inode of the pending folder.
    pending: Option<u64>,
    /// Time of change and number of links of the history folder: every finish changes them.
    history: Option<(i64, i64, u64)>,
}

impl Moment {
    pub(crate) fn now(dir: &Path) -> Self {
        let stat = |name: &str| fs::metadata(dir.join(name)).ok();
        Self {
            pending: stat(PENDING).map(|folder| folder.ino()),
            history: stat(history::FOLDER)
                .map(|folder| (folder.mtime(), folder.mtime_nsec(), folder.nlink())),
        }
    }

    /// The files of the publication that is committed but not finished, if there is one.
    pub(crate) fn pending_files(&self, dir: &Path) -> io::Result<Option<Files>> {
        if self.pending.is_none() {
            return Ok(None);
        }
        history::read(&dir.join(PENDING)).map(|(_, files)| Some(files))
    }
}
