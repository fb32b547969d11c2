//! The Redis of a fleet, for commands.

use super::Usage;
use penstock_config::bootstrap::Bootstrap;
use penstock_config::clock;
use penstock_config::policy::{Policy, Resilience};
use penstock_engine::redis::{Link, Trouble};
use std::sync::Arc;
use std::time::Duration;

/// A person waits longer than a request does.
const PATIENCE: Duration = Duration::from_secs(2);
/// Attempts while the connection is being made, a tenth of a second apart.
const ATTEMPTS: u32 = 50;

/// Where the fleet's Redis is
#[derive(Debug, clap::Args)]
pub struct FleetRedis {
    /// Redis of the fleet [env: PENSTOCK_REDIS_URL]; its password may be in the file that
    /// PENSTOCK_REDIS_PASSWORD_FILE names
    #[arg(long, global = true, value_name = "URL")]
    redis: Option<String>,
}

/// A connection and how long to wait for it.
pub struct Fleet {
    /// The connection.
    pub link: Arc<Link>,
    resilience: Resilience,
    runtime: tokio::runtime::Runtime,
}

impl FleetRedis {
    /// The connection, if there is a Redis.
    pub fn connect(&self) -> anyhow::Result<Option<Fleet>> {
        let env = |name: &str| {
            if name == "PENSTOCK_REDIS_URL" && self.redis.is_some() {
                return self.redis.clone();
            }
            if !name.starts_with("PENSTOCK_REDIS_") {
                return None;
            }
            std::env::var(name).ok()
        };
        let settings = Bootstrap::parse("penstock.toml", b"", &env)
            .map_err(|problems| Usage(problems.to_string()))?;
        let Some(redis) = settings.redis else { return Ok(None) };
        let mut resilience = Policy::default().resilience;
        resilience.redis.timeout = PATIENCE;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let link = Arc::new(Link::new(redis, clock::system())?);
        Ok(Some(Fleet { link, resilience, runtime }))
    }
}

impl Fleet {
    /// Does `work`, again while there is no connection yet.
    pub fn run<T, E: From<Trouble>>(
        &self,
        work: impl AsyncFn(Resilience) -> Result<T, E>,
    ) -> Result<T, E> {
        self.runtime.block_on(async {
            let mut left = ATTEMPTS;
            while !self.link.is_connected() && left > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                left -= 1;
            }
            work(self.resilience.clone()).await
        })
    }
}
