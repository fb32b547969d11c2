//! `.history`: every version that was in force, each in a folder of its own.

use super::PublishError;
use crate::disk;
use crate::policy::FileSet;
use crate::read::MAX_FILE_BYTES;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const FOLDER: &str = ".history";
const META: &str = "meta.json";

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts up from 1.
    pub seq: u64,
    /// The version.
    pub version: String,
    /// The version it replaced; empty for one that was found, not published.
    pub previous: String,
    /// When, RFC 3339.
    pub when: String,
    /// Who published it; empty for one that was found in the folder.
    pub who: String,
    /// Why.
    pub why: String,
}

/// `meta.json` of a version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    #[serde(flatten)]
    pub(super) line: Version,
    /// SHA-256 of every file known at the time; `null`: it did not exist.
    pub(super) files: BTreeMap<String, Option<String>>,
    /// The same of the files that were replaced: what is neither was edited by hand since.
    pub(super) base: BTreeMap<String, Option<String>>,
}

impl Meta {
    pub(super) fn of(
        seq: u64,
        files: &FileSet,
        base: &FileSet,
        previous: &str,
        when: &str,
        who: &str,
        why: &str,
    ) -> Self {
        Self {
            line: Version {
                seq,
                version: files.version(),
                previous: previous.to_owned(),
                when: when.to_owned(),
                who: who.to_owned(),
                why: why.to_owned(),
            },
            files: digests(files),
            base: digests(base),
        }
    }

    pub(super) fn folder_name(&self) -> String {
        format!("{:06}-{}", self.line.seq, self.line.version)
    }
}

pub(super) fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn digests(files: &FileSet) -> BTreeMap<String, Option<String>> {
    let known = crate::policy::FILES.iter();
    known.map(|file| (file.name.to_owned(), files.get(file.name).map(digest))).collect()
}

/// Writes a version into `folder`, which must not exist, and makes it survive a power cut.
pub(super) fn write(folder: &Path, meta: &Meta, files: &FileSet) -> io::Result<()> {
    std::fs::create_dir(folder)?;
    for (name, content) in files.iter() {
        disk::create(&folder.join(name), content)?;
    }
    let json = serde_json::to_vec_pretty(meta).map_err(io::Error::other)?;
    disk::create(&folder.join(META), &json)?;
    disk::sync_folder(folder)
}

/// Contents by name; `None`: the file did not exist.
pub(super) type Files = BTreeMap<String, Option<Vec<u8>>>;

/// Reads a version back; a file that does not have its SHA-256 is an error.
pub(super) fn read(folder: &Path) -> io::Result<(Meta, Files)> {
    let json = disk::read_bounded(&folder.join(META), MAX_FILE_BYTES)?;
    let meta: Meta = serde_json::from_slice(&json).map_err(io::Error::other)?;
    let mut files = Files::new();
    for (name, expected) in &meta.files {
        // Names come from a file: never let one leave the folder.
        if name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(io::Error::other(format!("meta.json names the file {name:?}")));
        }
        let content = match expected {
            None => None,
            Some(expected) => {
                let content = disk::read_bounded(&folder.join(name), MAX_FILE_BYTES)?;
                if digest(&content) != *expected {
                    return Err(io::Error::other(format!("{name} does not have its checksum")));
                }
                Some(content)
            }
        };
        files.insert(name.clone(), content);
    }
    Ok((meta, files))
}

/// Every version that was in force in the policy folder `dir`, newest first. Entries that cannot
/// be read are left out.
pub fn history(dir: &Path) -> Vec<Version> {
    let folders = folders(dir).into_iter().rev();
    folders
        .filter_map(|folder| {
            let json = disk::read_bounded(&folder.join(META), MAX_FILE_BYTES).ok()?;
            let meta: Meta = serde_json::from_slice(&json).ok()?;
            Some(meta.line)
        })
        .collect()
}

/// The newest entry by its name, whether or not its content can be read.
pub(super) fn newest(dir: &Path) -> Option<Version> {
    let folder = folders(dir).pop()?;
    let (seq, version) = split_name(&folder)?;
    Some(Version {
        seq,
        version: version.to_owned(),
        previous: String::new(),
        when: String::new(),
        who: String::new(),
        why: String::new(),
    })
}

/// The texts of a version in the history of `dir`, as [`Edit`](super::Edit) takes them.
pub fn version_files(
    dir: &Path,
    version: &str,
) -> Result<BTreeMap<String, Option<String>>, PublishError> {
    let folder = folders(dir)
        .into_iter()
        .rev()
        .find(|folder| split_name(folder).is_some_and(|(_, found)| found == version))
        .ok_or_else(|| PublishError::UnknownVersion(version.to_owned()))?;
    let read = read(&folder).and_then(|(_, files)| {
        let texts = files.into_iter().map(|(name, content)| {
            let text = content.map(String::from_utf8).transpose();
            Ok((name, text.map_err(io::Error::other)?))
        });
        texts.collect()
    });
    read.map_err(PublishError::disk("reading the version from the history"))
}

/// The folders of the versions, oldest first.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten();
    let mut folders: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| Some((split_name(&path)?.0, path)))
        .collect();
    folders.sort();
    folders.into_iter().map(|(_, path)| path).collect()
}

fn split_name(folder: &Path) -> Option<(u64, &str)> {
    let (seq, version) = folder.file_name()?.to_str()?.split_once('-')?;
    Some((seq.parse().ok()?, version))
}
