//! Files that are whole or absent, never half.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// Reads a file of at most `limit` bytes; of a longer one, `limit + 1` bytes, so that the caller
/// sees that it is too long without holding all of it.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // Before opening: opening a named pipe waits for a writer for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("this is not a file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces `path` with `content`: temporary file beside it, fsync, rename, fsync of the folder.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content, true)?;
    rename(&temporary, path)?;
    sync_folder(folder_of(path))
}

/// As [`replace`] without the fsyncs: whole for every reader, but a power cut may bring back the
/// old content. For what is written again soon.
pub fn replace_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content, false)?;
    rename(&temporary, path)
}

fn rename(temporary: &Path, path: &Path) -> io::Result<()> {
    let renamed = fs::rename(temporary, path);
    if renamed.is_err() {
        let _ = fs::remove_file(temporary);
    }
    renamed
}

/// Creates `path` with `content`, whole or not at all; `false`: it exists and was not touched.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<bool> {
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let temporary = write_beside(path, content, true)?;
    // A hard link, unlike a rename, fails when the name was taken meanwhile. Not every file system
    // has them.
    let placed = match fs::hard_link(&temporary, path) {
        Ok(()) => fs::remove_file(&temporary).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(_) => fs::rename(&temporary, path).map(|()| true),
    };
    if !matches!(placed, Ok(true)) {
        let _ = fs::remove_file(&temporary);
    }
    if placed? {
        return sync_folder(folder_of(path)).map(|()| true);
    }
    Ok(false)
}

/// Creates `path` with `content` and makes the content survive a power cut (the name needs
/// [`sync_folder`]).
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Where a path leads when it is a link; a rename over a link would replace the link.
pub(crate) fn behind_links(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Makes names created in, renamed in or removed from `folder` survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn write_beside(path: &Path, content: &[u8], sync: bool) -> io::Result<PathBuf> {
    let temporary = temporary_beside(path);
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        if sync { file.sync_all() } else { Ok(()) }
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| temporary)
}

/// Removes temporary files whose writer was killed: those not touched for an hour.
pub(crate) fn sweep(folder: &Path, now_micros: i64) {
    const HOUR: Duration = Duration::from_hours(1);
    let now = UNIX_EPOCH + Duration::from_micros(u64::try_from(now_micros).unwrap_or(0));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with('.') && name.ends_with(".tmp");
        let old = || {
            let written = entry.metadata().ok()?.modified().ok()?;
            now.duration_since(written).ok().map(|age| age > HOUR)
        };
        if ours && old() == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A name no other thread or process uses: hidden, and ending in what cleaners look for.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!(".{name}.{}-{count}.tmp", std::process::id());
    folder_of(path).join(unique)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_temporary_files_are_swept() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [".a.toml.1-1.tmp", "a.tmp", ".a.toml"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let names = || fs::read_dir(dir.path()).expect("listed").count();
        let now = crate::clock::unix_micros();
        sweep(dir.path(), now);
        assert_eq!(names(), 3, "young");
        sweep(dir.path(), now + 3_700_000_000);
        assert_eq!(names(), 2);
        assert!(!dir.path().join(".a.toml.1-1.tmp").exists());
    }

    #[test]
    fn a_new_file_never_replaces_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        assert!(write_new(&path, b"1").expect("written"));
        assert!(!write_new(&path, b"2").expect("left alone"));
        assert_eq!(fs::read(&path).expect("read"), b"1");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
