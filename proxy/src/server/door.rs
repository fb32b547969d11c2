//! The way in: connections are counted, and closed when a request's headers do not come.
//!
//! Pingora's own timeouts restart with every byte, and while it looks for HTTP/2's preface it has
//! none: a client that sends a byte a minute would hold its place for ever. Here every connection
//! has a deadline by which the headers of its next request must be complete.
//!
//! Pingora also waits for as many bytes as the preface has before it takes a connection for
//! HTTP/1, which `OPTIONS / HTTP/1.0` of a health check never sends. Here three bytes decide.

use super::origin;
use crate::app::App;
use crate::gateway::{Gateway, KEEP_ALIVE_SECONDS};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

tokio::task_local! {
    /// What the connection of the current task waits for.
    static WAIT: Arc<Wait>;
}

/// No deadline: a request is being served, or the connection is HTTP/2 and had its first, from when
/// on its idle timeout counts.
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
        self.deadline.store(u64::try_from(at.as_millis()).unwrap_or(NONE), Ordering::Relaxed);
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
/// streams are tasks of their own, it does nothing: there the [`Front`] knows.
pub fn request_has_begun() {
    let _ = WAIT.try_with(|wait| wait.over());
}

/// All connections to the public listeners.
pub struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    app: Arc<App>,
}

impl Door {
    /// Around the proxy.
    pub fn new(proxy: HttpProxy<Gateway>, app: Arc<App>) -> Self {
        Self { proxy: Arc::new(proxy), app }
    }

    async fn serve(
        &self,
        mut stream: Stream,
        wait: Arc<Wait>,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let tls = stream.get_ssl_digest().is_some();
        if !tls && !origin::settle(&self.app, &mut stream).await {
            return None;
        }
        let h2c = !tls && begins_like_http2(&mut stream).await?;
        let front = Arc::new(Front::new(self.proxy.clone(), wait, h2c));
        front.process_new(stream, shutdown).await
    }
}

/// Whether the first bytes can be those of HTTP/2's preface (`PRI * HTTP/2.0`); they stay to be
/// read. No method of HTTP/1 is read further than its end: `P` has to be looked at again because of
/// `PUT`, and no request is shorter than three bytes. `None`: nobody is there any more.
async fn begins_like_http2(stream: &mut Stream) -> Option<bool> {
    let mut first = [0; 1];
    if !stream.try_peek(&mut first).await.ok()? || first != *b"P" {
        return Some(false);
    }
    let mut three = [0; 3];
    Some(stream.try_peek(&mut three).await.ok()? && three == *b"PRI")
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
        let now = app.clock.now();
        let patience = app.settings.bounds.header_timeout;
        let wait = Arc::new(Wait { began: now, deadline: AtomicU64::new(0) });
        wait.until(now, patience);
        let served = WAIT.scope(wait.clone(), self.serve(stream, wait.clone(), shutdown));
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
        self.proxy.http_cleanup().await;
    }
}

/// The proxy, for one connection, with a note of when it waits for a request.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway>>,
    wait: Arc<Wait>,
    options: HttpServerOptions,
}

impl Front {
    fn new(proxy: Arc<HttpProxy<Gateway>>, wait: Arc<Wait>, h2c: bool) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = h2c;
        options.h2_idle_timeout = Some(Duration::from_secs(KEEP_ALIVE_SECONDS));
        Self { proxy, wait, options }
    }
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if session.is_http2() {
            // A stream with complete headers. Until the first of them, preface and settings
            // included, the connection's deadline holds: Pingora waits for those without any.
            self.wait.over();
        }
        let reused = self.proxy.process_new_http(session, shutdown).await;
        if reused.is_some() {
            // The idle time between requests and the headers of the next one share a deadline.
            let now = penstock_config::clock::now();
            self.wait.until(now, Duration::from_secs(KEEP_ALIVE_SECONDS));
        }
        reused
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests;
