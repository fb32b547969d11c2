//! The log of changes, followed: what other instances say does not hold any more.

use crate::app::App;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::sync::Arc;

/// Keeps this instance's ledger up to date, and tells the fleet what changed here.
pub struct ChangesFollower(pub Arc<App>);

#[async_trait]
impl BackgroundService for ChangesFollower {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let app = &self.0;
        let policy = || app.policies.current().resilience.clone();
        tokio::select! {
            () = app.caches.log.follow(policy) => {}
            _ = shutdown.changed() => {}
        }
    }
}
