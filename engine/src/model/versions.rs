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

mod building;

pub use building::Building;

use super::durable;
use super::manifest::{self, Manifest, Part, PartError};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = "indexes";
const CURRENT: &str = "CURRENT";

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
    move |error| VersionError::Io { what, path: path.to_path_buf(), why: error.to_string() }
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
        let broken = |why: String| VersionError::Broken { name: name.into(), why };
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
        Ok(Self { name: name.into(), folder, manifest })
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
    Ok(names.iter().map(|name| Version::read(data_dir, name)).collect())
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

#[cfg(test)]
mod tests;
