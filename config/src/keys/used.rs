//! When each key was last used: what a proxy writes now and then, and operators look at.

use super::id::KeyId;
use crate::disk;
use crate::units::unix_seconds;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

#[derive(Serialize, Deserialize)]
struct Use {
    id: KeyId,
    #[serde(with = "unix_seconds")]
    last_used: i64,
}

/// Reads the file at `path`: seconds since 1970 by key. No file: none; lines that cannot be read are
/// left out, they cost a date in a list.
pub fn read_used(path: &Path) -> io::Result<HashMap<KeyId, i64>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let mut used = HashMap::new();
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(Use { id, last_used }) = serde_json::from_slice(&line?) {
            used.insert(id, last_used);
        }
    }
    Ok(used)
}

/// Replaces the file at `path`, whole or not at all.
pub fn write_used(path: &Path, used: impl Iterator<Item = (KeyId, i64)>) -> io::Result<()> {
    let mut text = Vec::new();
    for (id, last_used) in used {
        serde_json::to_writer(&mut text, &Use { id, last_used })?;
        text.push(b'\n');
    }
    disk::replace_unsynced(path, &text)
}
