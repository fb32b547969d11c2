//! Notices when Redis is back, and when it came back without its data.

use crate::app::App;
use async_trait::async_trait;
use penstock_engine::redis::{Link, Script};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks: so long a client's counts may be unknown to the other instances.
const LOOK: Duration = Duration::from_millis(500);

/// KEYS: the mark. ARGV: a new one. Returns the mark that is there, or the new one.
const MARK: &str = "
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])";

/// Settles what was decided without Redis. A mark without expiry says whether Redis is still the one
/// that knows what it was told.
pub struct Settler {
    app: Arc<App>,
    link: Arc<Link>,
}

impl Settler {
    /// Of `app`, through `link`.
    pub fn new(app: Arc<App>, link: Arc<Link>) -> Self {
        Self { app, link }
    }

    /// `mark`: what was seen last.
    async fn look(&self, script: &Script, mark: &mut Option<String>) {
        let app = &self.app;
        let policy = app.policies.current();
        let fresh = format!("{}-{}", app.settings.instance, app.clock.unix_micros());
        let keys = [self.link.key("{fleet}:mark")];
        // What is wrong with Redis is told by the link.
        let seen = self.link.script::<String, _>(&policy.resilience, script, &keys, &[fresh]).await;
        let Ok(seen) = seen else { return };
        let lost = mark.as_ref().is_some_and(|mark| *mark != seen);
        if lost {
            tracing::warn!("Redis lost its data, or is another one");
        }
        *mark = Some(seen);
        app.admission.settle(&policy.limits, &policy.resilience, lost, app.clock.now()).await;
    }
}

#[async_trait]
impl BackgroundService for Settler {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let script = Script::new(MARK);
        let mut mark = None;
        loop {
            self.look(&script, &mut mark).await;
            tokio::select! {
                _ = shutdown.changed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
