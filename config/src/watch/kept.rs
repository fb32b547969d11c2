//! The copy of the last accepted set: what a process starts on when the folder is broken.

use crate::disk;
use crate::policy::FileSet;
use crate::units::rfc3339;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// All policy files in their JSON escapes stay well under this.
const MAX_BYTES: usize = 64 << 20;

/// One file, so that one rename replaces the whole set.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: String,
    accepted_at: String,
    files: BTreeMap<String, String>,
}

pub(super) fn save(path: &Path, files: &FileSet, now_micros: i64) -> io::Result<()> {
    // Accepted files are UTF-8; were one not, it would not be worth keeping.
    let texts = files.iter().filter_map(|(name, content)| {
        let text = std::str::from_utf8(content).ok()?;
        Some((name.to_owned(), text.to_owned()))
    });
    let kept =
        Kept { version: files.version(), accepted_at: rfc3339(now_micros), files: texts.collect() };
    if load(path).is_some_and(|old| old == *files) {
        return Ok(());
    }
    let folder = disk::folder_of(path);
    if !folder.is_dir() {
        // Not `create_dir_all`: a policy folder that was deleted must stay deleted.
        std::fs::create_dir(folder)?;
    }
    let json = serde_json::to_vec_pretty(&kept).map_err(io::Error::other)?;
    disk::replace(path, &json)
}

/// The kept set; `None` when there is none or it is not readable as one.
pub(super) fn load(path: &Path) -> Option<FileSet> {
    let bytes = disk::read_bounded(path, MAX_BYTES).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    Some(FileSet::of(kept.files))
}
