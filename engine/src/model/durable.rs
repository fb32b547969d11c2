//! Writes that survive a power cut: data first, then the name, then the folder that holds the name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Forces a file's bytes to disk.
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Forces a folder's entries (the names of its files) to disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a new file and forces it to disk. Its name is safe only after [`sync_folder`].
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces `path` as one step: a reader sees the old content or the new, whatever happens.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The process id keeps two writers from sharing one half-written file.
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder)
}

/// Whether a file of this name was left by a [`replace`] whose process is no more.
pub(super) fn is_leftover(name: &str) -> bool {
    let writer = name
        .strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .and_then(|rest| rest.rsplit_once('.'))
        .and_then(|(_, pid)| pid.parse::<u32>().ok());
    writer.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_a_leftover() {
        let check = |name: &str, expected: bool| assert_eq!(is_leftover(name), expected, "{name}");
        check(&format!(".CURRENT.{}.tmp", u32::MAX), true);
        check(&format!(".CURRENT.{}.tmp", std::process::id()), false);
        for name in ["CURRENT", ".CURRENT.tmp", ".lock", "CURRENT.1.tmp", ".CURRENT.x.tmp"] {
            check(name, false);
        }
    }
}
