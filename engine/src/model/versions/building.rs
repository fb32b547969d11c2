//! Building a version aside, and publishing it as one step.

use super::{FOLDER, Version, VersionError, io_error, point_to, short_hash};
use crate::model::durable;
use crate::model::manifest::{self, FileEntry, Manifest, Part};
use rayon::prelude::*;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Held by the builder as long as it lives.
const LOCK: &str = ".lock";
/// Begins the names of folders that nobody reads.
const BUILDING: &str = ".building-";

/// A version being built: a folder nobody reads. Dropped before [`Building::publish`], it vanishes.
#[derive(Debug)]
pub struct Building {
    data_dir: PathBuf,
    pub(super) folder: PathBuf,
    published: bool,
    // Released by the system when the process ends, however it ends.
    _lock: File,
}

impl Building {
    /// Makes `data_dir` and the folder to build in, and removes what dead builders left. One
    /// process builds at a time in a data folder.
    pub fn begin(data_dir: &Path) -> Result<Self, VersionError> {
        let indexes = data_dir.join(FOLDER);
        fs::create_dir_all(&indexes).map_err(io_error("make", &indexes))?;
        let lock_path = indexes.join(LOCK);
        let lock = File::create(&lock_path).map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(VersionError::Busy(indexes)),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &lock_path)(error)),
        }
        // Whoever holds the lock is the only living builder: what lies here belongs to the dead.
        remove_leftovers(&indexes).map_err(io_error("clean", &indexes))?;
        let folder = indexes.join(format!("{BUILDING}{}", std::process::id()));
        fs::create_dir(&folder).map_err(io_error("make", &folder))?;
        Ok(Self { data_dir: data_dir.to_path_buf(), folder, published: false, _lock: lock })
    }

    /// The folder of a part, made if absent. Every file in it when the version is published
    /// belongs to the part.
    pub fn part(&self, part: Part) -> Result<PathBuf, VersionError> {
        let folder = self.folder.join(part.name());
        fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        Ok(folder)
    }

    /// Lists and hashes the files of every part, writes the manifest, forces everything to disk,
    /// gives the version its name and puts it in force. `manifest.parts` and `manifest.created_at`
    /// are filled in here.
    pub fn publish(
        mut self,
        mut manifest: Manifest,
        now_micros: i64,
    ) -> Result<Version, VersionError> {
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_micros) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        manifest.created_at = now.format(&Rfc3339).unwrap_or_default();
        for part in Part::ALL {
            let folder = self.folder.join(part.name());
            if folder.is_dir() {
                let files = seal(&self.folder, &folder).map_err(io_error("read", &folder))?;
                manifest.parts.insert(part, files);
            }
        }
        let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        bytes.push(b'\n');
        let path = self.folder.join(manifest::FILE_NAME);
        durable::write_new(&path, &bytes).map_err(io_error("write", &path))?;
        durable::sync_folder(&self.folder).map_err(io_error("write", &self.folder))?;

        let name = format!("{}-{}", time_name(now), short_hash(&bytes));
        let indexes = self.data_dir.join(FOLDER);
        let folder = indexes.join(&name);
        fs::rename(&self.folder, &folder).map_err(io_error("rename", &self.folder))?;
        self.published = true;
        durable::sync_folder(&indexes).map_err(io_error("write", &indexes))?;
        point_to(&self.data_dir, &name)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed by the next builder.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn remove_leftovers(indexes: &Path) -> io::Result<()> {
    for entry in fs::read_dir(indexes)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(BUILDING) {
            fs::remove_dir_all(entry.path())?;
        } else if durable::is_leftover(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn time_name(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, milli) = (at.hour(), at.minute(), at.second(), at.millisecond());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}{milli:03}Z")
}

/// Forces every file below `part` to disk and lists them with length and hash, sorted by path.
fn seal(version: &Path, part: &Path) -> io::Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    let mut folders = vec![part.to_path_buf()];
    let mut next = 0;
    while next < folders.len() {
        for entry in fs::read_dir(&folders[next])? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            // Tantivy's lock files come and go with every reader.
            } else if path.extension().is_none_or(|extension| extension != "lock") {
                files.push(path);
            }
        }
        next += 1;
    }
    files.sort_unstable();
    let entries = files
        .par_iter()
        .map(|path| {
            durable::sync_file(path)?;
            let (bytes, sha256) = manifest::hash_file(path)?;
            let relative = path.strip_prefix(version).map_err(io::Error::other)?;
            let path =
                relative.to_str().ok_or_else(|| io::Error::other("a file name is not UTF-8"))?;
            Ok(FileEntry { path: path.to_owned(), bytes, sha256 })
        })
        .collect::<io::Result<Vec<_>>>()?;
    // Children before parents, so that no folder on disk names a child that is not.
    for folder in folders.iter().rev() {
        durable::sync_folder(folder)?;
    }
    Ok(entries)
}
