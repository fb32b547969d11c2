//! Reading a policy folder so that what is read belongs together.
//!
//! Files are read one after the other, and meanwhile somebody may write. Two things guard against
//! a mixture: a publication that is committed but not finished is read from its own folder
//! ([`publish`](crate::publish)); and everything is read twice, until both agree, which catches a
//! ConfigMap being swapped.

use super::files::{FileSet, is_toml, known};
use crate::disk;
use crate::problem::Problem;
use crate::publish::Moment;
use crate::read::MAX_FILE_BYTES;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Reading takes well under a millisecond and a swap a few microseconds: a folder that is never
/// the same twice is being rewritten in a loop.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

impl FileSet {
    /// Reads the known files of the policy folder `dir`, all of one moment. Never writes.
    pub fn collect(dir: &Path) -> Result<Self, Problem> {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            let read = read_once(dir);
            if let Some(read) = read {
                if last.as_ref() == Some(&read) {
                    return read;
                }
                last = Some(read);
            }
            if attempt > 4 {
                std::thread::sleep(PAUSE);
            }
        }
        let message = "the policy folder changes faster than it can be read";
        Err(Problem::of_file(dir.display().to_string(), message))
    }
}

/// `None`: a publication moved while it was read.
fn read_once(dir: &Path) -> Option<Result<FileSet, Problem>> {
    let before = Moment::now(dir);
    let mut read = scan(dir);
    let pending = before.pending_files(dir);
    if Moment::now(dir) != before {
        return None;
    }
    match pending {
        Ok(None) => {}
        Ok(Some(files)) => {
            // What the folder has is half old, half new: even an error of it says nothing.
            let mut set = read.unwrap_or_default();
            for (name, content) in files {
                set.put(&name, content);
            }
            read = Ok(set);
        }
        Err(error) => {
            let message = format!("the unfinished publication cannot be read: {error}");
            let problem = Problem::of_file(dir.join(".pending").display().to_string(), message);
            read = Err(problem.suggest("restore it or remove the folder"));
        }
    }
    Some(read)
}

fn scan(dir: &Path) -> Result<FileSet, Problem> {
    let mut set = FileSet::default();
    let entries = std::fs::read_dir(dir).map_err(|error| unreadable_folder(dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable_folder(dir, &error))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if known(&name).is_none() {
            if is_toml(&name) {
                set.add_stranger(name);
            }
            continue;
        }
        match disk::read_bounded(&entry.path(), MAX_FILE_BYTES) {
            Ok(bytes) => set.put(&name, Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if entry.path().is_symlink() {
                    return Err(Problem::of_file(name, "this link leads nowhere"));
                }
                // Removed between the listing and the read: the same as not there.
            }
            Err(error) => {
                return Err(Problem::of_file(name, format!("cannot be read: {error}")));
            }
        }
    }
    Ok(set)
}

fn unreadable_folder(dir: &Path, error: &io::Error) -> Problem {
    let problem = Problem::of_file(
        dir.display().to_string(),
        format!("the policy folder cannot be read: {error}"),
    );
    match error.kind() {
        io::ErrorKind::NotFound => {
            problem.suggest("create it, or set PENSTOCK_POLICY_DIR to the right one")
        }
        _ => problem,
    }
}
