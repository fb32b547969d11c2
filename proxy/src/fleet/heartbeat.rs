//! How many instances there are: each says once a second in Redis that it lives.
//!
//! The number is what limits are divided by when Redis does not answer, so it errs on the side of many:
//! the most of the last seconds counts, and while Redis is silent the last number stands.

use crate::app::App;
use async_trait::async_trait;
use penstock_engine::redis::{Link, Script};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// An instance that was silent for so long is gone, milliseconds.
const GONE_AFTER_MS: u64 = 5_000;
/// Counts of which the greatest is believed: those of as long as it takes to be gone.
const BELIEVED: usize = 5;

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
}

impl Heartbeat {
    /// Of `app`, through `link`.
    pub fn new(app: Arc<App>, link: Arc<Link>) -> Self {
        Self { app, link }
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
        if let Some(shared) = self.app.admission.shared() {
            shared.counted(counts.iter().copied().max().unwrap_or(1));
        }
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
