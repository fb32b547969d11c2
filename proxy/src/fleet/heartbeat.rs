//! How many instances there are: each says once a second in Redis that it lives.
//!
//! The number is what limits are divided by when Redis does not answer, so it errs on the side of many:
//! the most of the last seconds counts, and while Redis is silent the last number stands, over a restart too:
//! it is kept in the data folder, or an instance that starts while Redis is away would take the whole limit
//! for itself.

use crate::app::App;
use async_trait::async_trait;
use penstock_config::disk;
use penstock_engine::redis::{Link, Script};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// An instance that was silent for so long is gone, milliseconds.
const GONE_AFTER_MS: u64 = 5_000;
/// Counts of which the greatest is believed: those of as long as it takes to be gone.
const BELIEVED: usize = 5;

/// Name of the file in the data folder.
const FILE: &str = "instances";

/// KEYS: the instances, by their last sign of life. ARGV: which one, and after how many milliseconds one
/// is gone. Returns how many there are.
const SIGN_OF_LIFE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return redis.call('ZCARD', KEYS[1])";

/// The signs of life of this instance.
pub struct Heartbeat {
    app: Arc<App>,
    link: Arc<Link>,
    kept: Mutex<Kept>,
}

/// The last number, as it is in the data folder.
#[derive(Debug)]
struct Kept {
    file: PathBuf,
    /// At least 1; `None`: never counted, or not to be read.
    count: Option<u32>,
}

impl Kept {
    fn read(data_dir: &Path) -> Self {
        let file = data_dir.join(FILE);
        let count = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().ok().filter(|&count| count > 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self { file, count: None };
            }
            Err(_) => None,
        };
        if count.is_none() {
            tracing::warn!(file = %file.display(), "the kept number of instances cannot be read; it is written anew when Redis answers");
        }
        Self { file, count }
    }

    /// Writes it down where it is another.
    fn set(&mut self, count: u32) {
        if self.count == Some(count) {
            return;
        }
        let written = disk::replace_unsynced(&self.file, format!("{count}\n").as_bytes());
        if let Err(error) = written {
            tracing::error!(file = %self.file.display(), %error, "the number of instances cannot be kept for a restart");
        }
        // Not tried again every second; the next change is.
        self.count = Some(count);
    }
}

impl Heartbeat {
    /// Of `app`, through `link`; takes over how many there were when they were counted last.
    pub fn new(app: Arc<App>, link: Arc<Link>) -> Self {
        let kept = Kept::read(&app.settings.data_dir);
        if let (Some(count), Some(shared)) = (kept.count, app.admission.shared()) {
            shared.counted(count);
        }
        Self { app, link, kept: Mutex::new(kept) }
    }

    /// Where the instances are: one slot of a cluster.
    fn key(&self) -> String {
        self.link.key("{fleet}:instances")
    }

    async fn beat(&self, script: &Script, counts: &mut VecDeque<u32>) {
        let policy = self.app.policies.current();
        let args = [self.app.settings.instance.clone(), GONE_AFTER_MS.to_string()];
        // What is wrong with Redis is told by the link.
        let Ok(count) =
            self.link.script::<u32, _>(&policy.resilience, script, &[self.key()], &args).await
        else {
            return;
        };
        counts.push_back(count);
        if counts.len() > BELIEVED {
            counts.pop_front();
        }
        let count = counts.iter().copied().max().unwrap_or(1);
        if let Some(shared) = self.app.admission.shared() {
            shared.counted(count);
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).set(count);
    }

    async fn leave(&self) {
        let policy = self.app.policies.current();
        let mut command = penstock_engine::redis::cmd("ZREM");
        command.arg(self.key()).arg(&self.app.settings.instance);
        // An instance that cannot say that it goes is counted a few seconds longer.
        let _ = self.link.call::<u32>(&policy.resilience, &command).await;
    }
}

#[async_trait]
impl BackgroundService for Heartbeat {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let script = Script::new(SIGN_OF_LIFE);
        let mut counts = VecDeque::with_capacity(BELIEVED + 1);
        loop {
            self.beat(&script, &mut counts).await;
            tokio::select! {
                _ = shutdown.changed() => break,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
        self.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let read = || Kept::read(dir).count;
        assert_eq!(read(), None);
        let mut kept = Kept::read(dir);
        for count in [3, 3, 1, 20] {
            kept.set(count);
            assert_eq!(read(), Some(count));
        }
        for damaged in ["", "0", "-1", "many", "99999999999"] {
            std::fs::write(dir.join(FILE), damaged).unwrap();
            assert_eq!(read(), None, "{damaged:?}");
        }
        Kept::read(dir).set(2);
        assert_eq!(read(), Some(2));
    }
}
