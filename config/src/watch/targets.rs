//! What events are asked for.
//!
//! The folder, and where the known files are links elsewhere, the folders they lead to. (Kubernetes
//! replaces the link `..data` in the folder itself; that is an event of the folder.) Watches hold
//! on to what was there when they began, so they are renewed when a folder was replaced.

use super::burst::Signal;
use crate::policy::FILES;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

/// Device and inode: the folder itself, whatever its name.
type Identity = (u64, u64);

pub(super) struct Targets {
    watcher: RecommendedWatcher,
    watched: BTreeMap<PathBuf, Identity>,
}

impl Targets {
    /// `None` when there are no events to be had; the log says why.
    pub(super) fn start(sender: Sender<Signal>) -> Option<Self> {
        let forward = move |event: notify::Result<notify::Event>| {
            if let Some(signal) = signal_of(event) {
                // The receiver is gone only when the watcher is being dropped.
                let _ = sender.send(signal);
            }
        };
        match notify::recommended_watcher(forward) {
            Ok(watcher) => Some(Self { watcher, watched: BTreeMap::new() }),
            Err(error) => {
                tracing::warn!(%error, "no file system events: the policy folder is polled");
                None
            }
        }
    }

    /// Follows the folder and its links to where they lead now. `false`: the folder itself cannot
    /// be watched.
    pub(super) fn renew(&mut self, dir: &Path) -> bool {
        let wanted = wanted(dir);
        let gone = |path: &PathBuf, identity: &Identity| wanted.get(path) != Some(identity);
        let stale: Vec<_> = self
            .watched
            .iter()
            .filter(|(path, identity)| gone(path, identity))
            .map(|(path, _)| path.clone())
            .collect();
        for path in stale {
            // Of a deleted folder the kernel has ended the watch already.
            let _ = self.watcher.unwatch(&path);
            self.watched.remove(&path);
        }
        for (path, identity) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(path, identity)),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "no events of this folder");
                }
            }
        }
        self.watched.contains_key(dir)
    }
}

fn wanted(dir: &Path) -> BTreeMap<PathBuf, Identity> {
    let linked = FILES.iter().filter_map(|file| {
        let path = dir.join(file.name);
        if !path.is_symlink() {
            return None;
        }
        let target = path.canonicalize().ok()?;
        target.parent().map(Path::to_owned)
    });
    std::iter::once(dir.to_owned())
        .chain(linked)
        .filter_map(|path| {
            let folder = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
            Some((path, (folder.dev(), folder.ino())))
        })
        .collect()
}

fn signal_of(event: notify::Result<notify::Event>) -> Option<Signal> {
    let Ok(event) = event else {
        // Events were lost: look.
        return Some(Signal::Changed);
    };
    let relevant = event.paths.is_empty() || event.paths.iter().any(|path| is_relevant(path));
    if !relevant {
        return None;
    }
    let path = event.paths.into_iter().next();
    match (event.kind, path) {
        (EventKind::Access(AccessKind::Close(AccessMode::Write)), Some(path)) => {
            Some(Signal::Written(path))
        }
        // Our own reads.
        (EventKind::Access(_), _) => None,
        // Another file that is always being written, a log say, is no reason to wait.
        (EventKind::Modify(ModifyKind::Data(_)), Some(path)) if is_settings(&path) => {
            Some(Signal::Writing(path))
        }
        _ => Some(Signal::Changed),
    }
}

/// Hidden names are ours (heartbeats, history, temporary files) or editors'; but `..data` is
/// Kubernetes', and `.pending` brings a whole published set into force.
fn is_relevant(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !name.starts_with('.') || name.starts_with("..") || name == ".pending"
}

fn is_settings(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}
