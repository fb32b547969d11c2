//! Files that are whole or absent, never half.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content, true)?;
    rename(&temporary, path)?;
    sync_folder(folder_of(path))
}

/// As [`replace`] without the fsyncs: whole for every reader, but a power cut may bring back the
/// old content. For what is written again soon.
pub(crate) fn replace_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
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

/// A name no other thread or process uses: hidden, and ending in what cleaners look for.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!(".{name}.{}-{count}.tmp", std::process::id());
    folder_of(path).join(unique)
}
