//! The way in: connections are counted, and closed when a request's headers do not come.
//!
//! Pingora's own timeouts restart with every byte, and while it looks for HTTP/2's preface it has
//! none: a client that sends a byte a minute would hold its place for ever. Here every connection
//! has a deadline by which the headers of its next request must be complete.

use crate::app::App;
use crate::gateway::{Gateway, KEEP_ALIVE_SECONDS};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

tokio::task_local! {
    /// What the connection of the current task waits for.
    static WAIT: Arc<Wait>;
}

/// No deadline: a request is being served, or the connection is HTTP/2, which has its own.
const NONE: u64 = u64::MAX;

/// By when the headers of the next request must be there, in milliseconds of the connection's life.
#[derive(Debug)]
struct Wait {
    began: Instant,
    deadline: AtomicU64,
}

impl Wait {
    fn until(&self, now: Instant, patience: Duration) {
        let at = now + patience - self.began;
        self.deadline.store(
            u64::try_from(at.as_millis()).unwrap_or(NONE),
            Ordering::Relaxed,
        );
    }

    fn over(&self) {
        self.deadline.store(NONE, Ordering::Relaxed);
    }

    /// What is left at `now`; `None` without a deadline.
    fn left(&self, now: Instant) -> Option<Duration> {
        let deadline = self.deadline.load(Ordering::Relaxed);
        (deadline != NONE)
            .then(|| (self.began + Duration::from_millis(deadline)).saturating_duration_since(now))
    }
}

/// A request's headers are complete. Called where the request's context is made; on HTTP/2, whose
/// streams are tasks of their own, it does nothing.
pub fn request_has_begun() {
    let _ = WAIT.try_with(|wait| wait.over());
}

/// All connections to the public listeners.
pub struct Door {
    front: Arc<Front>,
    app: Arc<App>,
}

impl Door {
    /// Around the proxy.
    pub fn new(front: Arc<Front>, app: Arc<App>) -> Self {
        Self { front, app }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let app = &self.app;
        let _open = app.drain.connection();
        app.metrics.connections.set(app.drain.connections() as i64);
        let now = app.clock.now();
        let patience = app.settings.bounds.header_timeout;
        let wait = Arc::new(Wait {
            began: now,
            deadline: AtomicU64::new(0),
        });
        wait.until(now, patience);
        let served = WAIT.scope(wait.clone(), self.front.process_new(stream, shutdown));
        tokio::pin!(served);
        loop {
            let left = wait.left(app.clock.now());
            // Without a deadline: look again after the shortest time in which one could pass.
            let look_again = left.unwrap_or(patience).max(Duration::from_millis(10));
            tokio::select! {
                stream = &mut served => return stream,
                () = tokio::time::sleep(look_again) => {
                    if wait.left(app.clock.now()) == Some(Duration::ZERO) {
                        app.metrics.slow_headers.inc();
                        return None;
                    }
                }
            }
        }
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(self.front.as_ref()).await;
    }
}

/// The proxy, with a note of when it waits for a request.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway>>,
}

impl Front {
    /// Around Pingora's proxy.
    pub fn new(proxy: HttpProxy<Gateway>) -> Self {
        Self {
            proxy: Arc::new(proxy),
        }
    }
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let reused = self.proxy.process_new_http(session, shutdown).await;
        if reused.is_some() {
            // The idle time between requests and the headers of the next one share a deadline.
            let _ = WAIT.try_with(|wait| {
                wait.until(
                    penstock_config::clock::now(),
                    Duration::from_secs(KEEP_ALIVE_SECONDS),
                );
            });
        }
        reused
    }

    /// Asked when a connection turned out to be HTTP/2: from here on its idle timeout counts.
    fn h2_options(&self) -> Option<H2Options> {
        request_has_begun();
        Some(default_h2_options())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_deadline_until_it_is_over() {
        let began = penstock_config::clock::now();
        let wait = Wait {
            began,
            deadline: AtomicU64::new(0),
        };
        let at = |millis| began + Duration::from_millis(millis);
        wait.until(at(1_000), Duration::from_secs(2));
        assert_eq!(wait.left(at(1_000)), Some(Duration::from_secs(2)));
        assert_eq!(wait.left(at(2_500)), Some(Duration::from_millis(500)));
        assert_eq!(wait.left(at(9_000)), Some(Duration::ZERO));
        wait.over();
        assert_eq!(wait.left(at(9_000)), None);
    }
}
