//! Each process says in the policy folder which policy it runs and which it refused.
//!
//! `.status/<instance>.json`, replaced on every change and every few seconds in between. A reader
//! takes an old one for a process that is gone. A folder that cannot be written to (a ConfigMap)
//! has no heartbeats; the status page of each process says the same.

use super::status::PolicyStatus;
use crate::disk;
use crate::units::rfc3339;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = ".status";
/// Processes in containers get new names; their files would pile up.
const FORGOTTEN_AFTER_SECONDS: u64 = 24 * 3_600;
const MAX_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct Beat<'a> {
    instance: &'a str,
    pid: u32,
    written: String,
    written_unix_micros: i64,
    policy: &'a PolicyStatus,
}

/// One process's heartbeat as found in a policy folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heartbeat {
    /// The process.
    pub instance: String,
    /// Seconds since it was written.
    pub age_seconds: u64,
    /// The whole content: `instance`, `pid`, `written` (RFC 3339), `policy` ([`PolicyStatus`]).
    pub content: serde_json::Value,
}

/// All heartbeats in the policy folder `dir`, by name of the process; `now_micros` is Unix time.
/// What cannot be read is left out.
pub fn heartbeats(dir: &Path, now_micros: i64) -> Vec<Heartbeat> {
    let mut found: Vec<_> = files(dir)
        .filter_map(|path| {
            let bytes = disk::read_bounded(&path, MAX_BYTES).ok()?;
            let content: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            let age = now_micros - content.get("written_unix_micros")?.as_i64()?;
            Some(Heartbeat {
                instance: content.get("instance")?.as_str()?.to_owned(),
                age_seconds: u64::try_from(age / 1_000_000).unwrap_or(0),
                content,
            })
        })
        .collect();
    found.sort_by(|a, b| a.instance.cmp(&b.instance));
    found
}

fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten();
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
}

/// Writes the heartbeats of this process.
#[derive(Debug)]
pub(super) struct Heart {
    dir: PathBuf,
    instance: String,
    /// The last attempt failed and was logged.
    mute: bool,
}

impl Heart {
    pub(super) fn new(dir: &Path, instance: &str) -> Self {
        Self { dir: dir.to_owned(), instance: instance.to_owned(), mute: false }
    }

    pub(super) fn beat(&mut self, policy: &PolicyStatus, now_micros: i64) {
        let beat = Beat {
            instance: &self.instance,
            pid: std::process::id(),
            written: rfc3339(now_micros),
            written_unix_micros: now_micros,
            policy,
        };
        match self.write(&beat) {
            Ok(()) => self.mute = false,
            Err(error) if !self.mute => {
                self.mute = true;
                tracing::info!(
                    folder = %self.dir.display(), %error,
                    "no heartbeat: the policy folder cannot be written to"
                );
            }
            Err(_) => {}
        }
    }

    fn write(&self, beat: &Beat<'_>) -> io::Result<()> {
        let folder = self.dir.join(FOLDER);
        if !folder.is_dir() {
            // Not `create_dir_all`: a policy folder that was deleted must stay deleted.
            std::fs::create_dir(&folder)?;
        }
        let json = serde_json::to_vec_pretty(beat).map_err(io::Error::other)?;
        disk::replace_unsynced(&self.path(), &json)
    }

    /// Removes the files of processes that are long gone.
    pub(super) fn sweep(&self, now_micros: i64) {
        disk::sweep(&self.dir.join(FOLDER), now_micros);
        let all = heartbeats(&self.dir, now_micros).into_iter();
        for beat in all.filter(|beat| beat.age_seconds > FORGOTTEN_AFTER_SECONDS) {
            let name = format!("{}.json", beat.instance);
            if !name.contains('/') {
                let _ = std::fs::remove_file(self.dir.join(FOLDER).join(name));
            }
        }
    }

    /// A process that ends properly takes its heartbeat with it.
    pub(super) fn stop(&self) {
        let _ = std::fs::remove_file(self.path());
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FOLDER).join(format!("{}.json", self.instance))
    }
}
