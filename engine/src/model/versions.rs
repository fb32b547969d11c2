//! Index versions in a data folder: build aside, publish as one step, list, roll back, prune.
//!
//! ```text
//! indexes/CURRENT                        one line: the name of the version in force
//! indexes/20261123T201658123Z-1f0c9a7e/  a version: manifest.json and the folders of its parts
//! indexes/.building-4711/                being built; rubbish once the builder is gone
//! indexes/.lock                          held by the builder as long as it lives
//! ```
//!
//! A version is complete before it has a name, and has a name before CURRENT says it: a builder
//! killed at any point leaves the previous version in force.

use super::durable;
use super::manifest::{self, FileEntry, Manifest, Part, PartError};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const FOLDER: &str = "indexes";
const CURRENT: &str = "CURRENT";
const LOCK: &str = ".lock";
const BUILDING: &str = ".building-";

/// Why index versions cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The file system said no.
    #[error("index versions: {what} {}: {why}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The version named does not exist, or its manifest is damaged.
    #[error("index version {name:?}: {why}")]
    Broken {
        /// Which version.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It was built from another store.
    #[error("index version {name:?} was built from store {built_from}, not from {store_id}")]
    WrongStore {
        /// Which version.
        name: String,
        /// The store in its manifest.
        built_from: String,
        /// The store at hand.
        store_id: String,
    },
    /// Another process is building.
    #[error("another process is building an index in {}", .0.display())]
    Busy(PathBuf),
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VersionError + 'a {
    move |error| VersionError::Io {
        what,
        path: path.to_path_buf(),
        why: error.to_string(),
    }
}

/// A published index version. Its manifest has been read; its parts have not.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its name: when it was built and the beginning of its manifest's hash. Sorts by time.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What it says it is.
    pub manifest: Manifest,
}

impl Version {
    fn read(data_dir: &Path, name: &str) -> Result<Self, VersionError> {
        let broken = |why: String| VersionError::Broken {
            name: name.into(),
            why,
        };
        if !is_version_name(name) {
            return Err(broken("this is no name of an index version".into()));
        }
        let folder = data_dir.join(FOLDER).join(name);
        let file = folder.join(manifest::FILE_NAME);
        let bytes =
            fs::read(&file).map_err(|error| broken(format!("{}: {error}", file.display())))?;
        if !name.ends_with(&short_hash(&bytes)) {
            return Err(broken("checksum of manifest.json does not match".into()));
        }
        let manifest =
            Manifest::parse(&bytes).map_err(|why| broken(format!("manifest.json: {why}")))?;
        Ok(Self {
            name: name.into(),
            folder,
            manifest,
        })
    }

    /// An index made from another store would point at other products.
    pub fn check_store(&self, store_id: &str) -> Result<(), VersionError> {
        if self.manifest.store_id == store_id {
            return Ok(());
        }
        Err(VersionError::WrongStore {
            name: self.name.clone(),
            built_from: self.manifest.store_id.clone(),
            store_id: store_id.into(),
        })
    }

    /// Proves every file of `part` and returns the part's folder. Reads the whole part: about a
    /// second per gigabyte.
    pub fn verify(&self, part: Part) -> Result<PathBuf, PartError> {
        self.manifest.verify(&self.folder, part)
    }
}

/// The version in force; `None` where none was ever published.
pub fn current(data_dir: &Path) -> Result<Option<Version>, VersionError> {
    let path = data_dir.join(FOLDER).join(CURRENT);
    match fs::read_to_string(&path) {
        Ok(line) => Version::read(data_dir, line.trim()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

/// Names of all published versions, newest first. Their content is not looked at.
pub fn names(data_dir: &Path) -> Result<Vec<String>, VersionError> {
    let folder = data_dir.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", &folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", &folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_version_name(&name) {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// All published versions, newest first; a damaged one as its error.
pub fn list(data_dir: &Path) -> Result<Vec<Result<Version, VersionError>>, VersionError> {
    let names = names(data_dir)?;
    Ok(names
        .iter()
        .map(|name| Version::read(data_dir, name))
        .collect())
}

/// Puts a published version in force: an older one rolls back. Its manifest must be whole.
pub fn point_to(data_dir: &Path, name: &str) -> Result<Version, VersionError> {
    let version = Version::read(data_dir, name)?;
    let path = data_dir.join(FOLDER).join(CURRENT);
    durable::replace(&path, format!("{name}\n").as_bytes()).map_err(io_error("write", &path))?;
    Ok(version)
}

/// Removes all but the newest `keep` versions; the one in force always stays. Returns the names of
/// those removed. Processes that have them open keep them until they let go.
pub fn prune(data_dir: &Path, keep: usize) -> Result<Vec<String>, VersionError> {
    let current = current(data_dir)?.map(|version| version.name);
    let mut removed = Vec::new();
    // The newest is never removed: another process may be about to put it in force.
    for name in names(data_dir)?.into_iter().skip(keep.max(1)) {
        if Some(&name) != current.as_ref() {
            let folder = data_dir.join(FOLDER).join(&name);
            remove_version(&folder).map_err(io_error("remove", &folder))?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// The manifest goes first, so that a half-removed version is no version.
fn remove_version(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(manifest::FILE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(folder)
}

/// `20261123T201658123Z-1f0c9a7e`.
fn is_version_name(name: &str) -> bool {
    let Some((time, hash)) = name.split_once('-') else {
        return false;
    };
    let time_ok = time.len() == 19
        && time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            18 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    time_ok
        && hash.len() == manifest::HASH_DIGITS
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn short_hash(bytes: &[u8]) -> String {
    let mut digits = hex::encode(Sha256::digest(bytes));
    digits.truncate(manifest::HASH_DIGITS);
    digits
}

/// A version being built: a folder nobody reads. Dropped before [`Building::publish`], it vanishes.
#[derive(Debug)]
pub struct Building {
    data_dir: PathBuf,
    folder: PathBuf,
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
        Ok(Self {
            data_dir: data_dir.to_path_buf(),
            folder,
            published: false,
            _lock: lock,
        })
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
        if entry.file_name().to_string_lossy().starts_with(BUILDING) {
            fs::remove_dir_all(entry.path())?;
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
            let path = relative
                .to_str()
                .ok_or_else(|| io::Error::other("a file name is not UTF-8"))?;
            Ok(FileEntry {
                path: path.to_owned(),
                bytes,
                sha256,
            })
        })
        .collect::<io::Result<Vec<_>>>()?;
    // Children before parents, so that no folder on disk names a child that is not.
    for folder in folders.iter().rev() {
        durable::sync_folder(folder)?;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
