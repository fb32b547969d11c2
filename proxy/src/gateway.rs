//! The request's way through Pingora's phases.
//!
//! `request_filter` answers what is ours and returns; everything else goes on to the application.
//! Each phase takes what the one before it made from the context, adds one thing, and writes down
//! what it decided. Upgrades (WebSocket) take the same way and meet the same phases.

use crate::access;
use crate::admission::gate::{self, Line};
use crate::app::App;
use crate::body;
use crate::context::Context;
use crate::decision::{bounded_text, without_keys};
use crate::identity::credential;
use crate::pages::phases;
use crate::respond::{self, Kind, Problem, Reply};
use crate::results;
use crate::route::{self, Endpoint, Route};
use crate::upstream::{self, Attempt, Blame, Body};
use async_trait::async_trait;
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::authority::{RawTargetAuthority, raw_target_authority};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;

/// An idle client connection is kept this long, seconds.
pub const KEEP_ALIVE_SECONDS: u64 = 75;
/// Between two reads of a request's body and between two writes of a response.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// Silence after which an upgraded connection is closed.
const UPGRADED_SILENCE: Duration = Duration::from_secs(3_600);
/// More header lines than this are refused.
const MAX_HEADER_LINES: usize = 128;

/// Pingora's view of the proxy.
pub struct Gateway(pub Arc<App>);

impl Gateway {
    /// Our answer, or `None` for what goes to the application.
    async fn answer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Option<Result<Reply, Problem>> {
        let app = &self.0;
        let began = app.clock.now();
        let request = session.req_header();
        let unfit =
            too_large(request, app.settings.bounds.max_header_bytes).or_else(|| hostless(request));
        if let Some(problem) = unfit {
            return Some(Err(problem));
        }
        let (path, query) = split_target(session.req_header().raw_path());
        let query = query.to_vec();
        let (endpoint, route) = route::route(&session.req_header().method, path);
        ctx.decision.route = endpoint;
        if ctx.background {
            // Whoever was served the stale page was judged and counted for it.
            app.pages.consider(app, ctx, session.req_header());
            return None;
        }
        if endpoint != Endpoint::Upstream {
            ctx.decision.target = without_keys(&bounded_text(session.req_header().raw_path()));
        }
        ctx.decision.stage("route", app.clock.now() - began);
        let with_key = !matches!(route, Ok(Route::Options { .. }));
        let standing = match access::judge(app, ctx, &session.req_header().headers, with_key) {
            Ok(standing) => standing,
            Err(denied) => return Some(Err(denied)),
        };
        let route = match route {
            Ok(route) => route,
            Err(refused) => return Some(Err(refused.into())),
        };
        let limited = if standing.exempt {
            None
        } else {
            let method = session.req_header().method.clone();
            let path = split_target(session.req_header().raw_path()).0.to_vec();
            gate::admit(app, ctx, Line { method, path: &path, query: &query }, &route).await
        };
        if let Some(problem) = limited.or(standing.refused) {
            return Some(Err(problem));
        }
        if route == Route::Upstream && app.upstream.is_configured() {
            app.pages.consider(app, ctx, session.req_header());
            // Said here and not where the peer is chosen: from here the connection stays open. For a
            // page it is said when nothing that could be served is kept.
            let nobody = !ctx.visit.is_of_page() && !app.upstream.any_healthy();
            return nobody.then(|| Err(upstream::unavailable()));
        }
        Some(results::answer(app, session, ctx, route, &query).await)
    }

    /// Sends an answer of ours.
    async fn say(&self, session: &mut Session, ctx: &mut Context, answer: Result<Reply, Problem>) {
        if answer.as_ref().is_err_and(|problem| problem.kind.is_refusal()) {
            gate::pause(&self.0, ctx).await;
        }
        let reply = answer.unwrap_or_else(|problem| Reply::problem(&problem, &mut ctx.decision));
        let unasked = body::waits_for_continue(session) && !session.is_body_done();
        if unasked {
            // Whether the client sends its body all the same cannot be known: what comes next may
            // be a body or a request (RFC 9110, 10.1.1).
            session.set_keepalive(None);
        } else {
            body::read_small_rest(session).await;
        }
        let began = self.0.clock.now();
        let written = respond::write(session, reply, &mut ctx.decision).await;
        ctx.decision.stage("respond", self.0.clock.now() - began);
        if let Err(error) = written {
            // The client is gone; there is nobody to tell.
            ctx.decision.error = Some(upstream::text_of(&error));
            session.set_keepalive(None);
        } else if !unasked {
            body::linger(session).await;
        }
    }
}

/// Path and query of a request target, the authority of an absolute one left out.
fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let target = match raw_target_authority(target) {
        RawTargetAuthority::Absolute { path_and_query, .. } => path_and_query,
        RawTargetAuthority::None | RawTargetAuthority::AmbiguousAuthority => target,
    };
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

fn too_large(request: &RequestHeader, max_bytes: usize) -> Option<Problem> {
    let lines = request.headers.len();
    // Each line costs its separator and its end too.
    let bytes = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
        + request.raw_path().len();
    let detail = if lines > MAX_HEADER_LINES {
        format!("the request has {lines} header lines; it may have {MAX_HEADER_LINES}")
    } else if bytes > max_bytes {
        format!("request line and headers have {bytes} bytes; they may have {max_bytes}")
    } else {
        return None;
    };
    Some(Problem::new(Kind::HeadersTooLarge, detail))
}

/// RFC 9112, 3.2: a request of HTTP/1.1 without `Host` is answered with 400, whoever would get it.
fn hostless(request: &RequestHeader) -> Option<Problem> {
    let named = request.headers.contains_key(http::header::HOST)
        || raw_target_authority(request.raw_path()).authority().is_some();
    (request.version == http::Version::HTTP_11 && !named).then(|| {
        Problem::new(Kind::BadRequest, "the request has no Host header; HTTP/1.1 needs one")
    })
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        crate::server::door::request_has_begun();
        Context::new(&self.0)
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let app = &self.0;
        ctx.identify(app, session);
        let patience = if ctx.websocket { UPGRADED_SILENCE } else { CLIENT_PATIENCE };
        session.set_read_timeout(Some(patience));
        session.set_write_timeout(Some(CLIENT_PATIENCE));
        session.set_total_drain_timeout(Some(Duration::from_secs(1)));
        // Pingora keeps connections for ever unless told otherwise. `None` is a client's wish.
        if session.get_keepalive().is_some() && !app.drain.is_leaving() {
            session.set_keepalive(Some(KEEP_ALIVE_SECONDS));
        } else {
            session.set_keepalive(None);
        }
        ctx.decision.stage("identity", app.clock.now() - ctx.began);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let Some(answer) = self.answer(session, ctx).await else {
            return Ok(false);
        };
        self.say(session, ctx, answer).await;
        Ok(true)
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        phases::enable(&self.0, session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, ctx: &mut Context) -> Result<CacheKey> {
        phases::key(ctx)
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        ctx: &mut Context,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        phases::variance(meta, ctx, request)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(phases::force(&self.0, session, meta, is_fresh, ctx))
    }

    /// Nothing that is kept was served.
    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<bool> {
        let Some(problem) = phases::refusal(&self.0, session, ctx) else {
            return Ok(true);
        };
        self.say(session, ctx, Err(problem)).await;
        Ok(false)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        phases::arrived(&self.0, response, ctx);
        Ok(())
    }

    fn response_cache_filter(
        &self,
        _session: &Session,
        response: &ResponseHeader,
        ctx: &mut Context,
    ) -> Result<RespCacheable> {
        Ok(phases::judge(&self.0, response, ctx))
    }

    fn should_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        error: Option<&Error>,
    ) -> bool {
        phases::serves_stale(&self.0, session, ctx, error)
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _ctx: &mut Context,
    ) -> RangeType {
        phases::range(session, response)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        let app = &self.0;
        let last = ctx.decision.upstream.as_ref().map(|used| used.address);
        let now = app.clock.now();
        let Some(picked) = app.upstream.pick(last, &ctx.policy.resilience.breaker, now) else {
            // After a failed attempt that was the last hope, the failure is the answer.
            let status = if last.is_some() { 502 } else { 503 };
            return Err(Error::explain(
                ErrorType::HTTPStatus(status),
                "no upstream server is healthy",
            ));
        };
        let follows = if ctx.websocket {
            Body::WebSocket
        } else if session.is_body_done() && session.body_bytes_read() == 0 {
            Body::None
        } else {
            Body::Upload(body::announced_length(session.req_header()))
        };
        let peer = upstream::peer(&picked.member, &ctx.policy.resilience.upstream, follows);
        ctx.attempt(picked, now);
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&pingora::protocols::Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        let now = self.0.clock.now();
        let took = now - ctx.attempt_began.unwrap_or(now);
        ctx.decision.stage("upstream_connect", took);
        if let Some(used) = &mut ctx.decision.upstream {
            used.reused = reused;
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let trusted = &self.0.settings.trusted_proxies;
        credential::strip(request)?;
        phases::prepare(request, ctx)?;
        upstream::to_upstream(request, &ctx.decision, trusted, ctx.tls, ctx.websocket)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let switched = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
        let theirs = !ctx.visit.is_of_page() || session.cache.upstream_used();
        if theirs && (switched || !response.status.is_informational()) {
            ctx.upstream_answered(&self.0);
            if ctx.websocket && !switched {
                session.set_read_timeout(Some(CLIENT_PATIENCE));
            }
        }
        phases::answered(&self.0, session, ctx, response)?;
        upstream::to_client(response, &ctx.decision)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.upstream_failed(&self.0, &error, true);
        // Nothing was sent, so any request may be tried again, elsewhere.
        error.set_retry(ctx.may_retry());
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        let theirs = *error.esource() == ErrorSource::Upstream;
        let attempt = Attempt {
            reused,
            answered: session.response_written().is_some(),
            body_sent: session.is_body_done(),
            waits: body::waits_for_continue(session),
            websocket: ctx.websocket,
        };
        match upstream::blame(&error, attempt) {
            Blame::Client if theirs => {
                ctx.decision.error.get_or_insert_with(|| upstream::text_of(&error));
                let mut error = error.into_down();
                error.set_retry(false);
                return error;
            }
            Blame::Client => {}
            blame => ctx.upstream_failed(&self.0, &error, blame == Blame::Server),
        }
        let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
        let untouched = session.response_written().is_none();
        let repeatable = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated()
            && !ctx.websocket;
        error.set_retry(theirs && !timed_out && untouched && repeatable && ctx.may_retry());
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        ctx.decision.error.get_or_insert_with(|| upstream::text_of(error));
        let gone = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let Some(problem) = upstream::problem_of(error) else {
            return gone;
        };
        if session.response_written().is_some_and(|sent| !sent.status.is_informational()) {
            // Half an answer is out. Cutting the connection tells the client that it is half.
            ctx.decision.problem = Some(problem.kind.slug());
            return gone;
        }
        // What the request's body still holds would be read as the next request.
        session.set_keepalive(None);
        let reply = Reply::problem(&problem, &mut ctx.decision);
        if let Err(error) = respond::write(session, reply, &mut ctx.decision).await {
            ctx.decision.error = Some(upstream::text_of(&error));
        }
        FailToProxy { error_code: problem.kind.status(), can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        // The access log has it, with everything around it.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        let app = &self.0;
        if let Some(error) = error {
            ctx.decision.error.get_or_insert_with(|| upstream::text_of(error));
        }
        ctx.finish(session, app.clock.now());
        if ctx.background {
            // No request of a client's: the attempts at the application were counted.
            if let Some(error) = &ctx.decision.error {
                tracing::warn!(error, "a page that is kept could not be fetched anew");
            }
            return;
        }
        app.metrics.record(&ctx.decision);
        app.access_log.record(&ctx.decision);
        let decision = Arc::new(ctx.decision.take());
        if let Some(spans) = &app.spans {
            spans.record(&decision);
        }
        app.decisions.push(decision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cut_where_the_query_begins() {
        let check = |target: &str, path: &str, query: &str| {
            let (seen_path, seen_query) = split_target(target.as_bytes());
            assert_eq!((seen_path, seen_query), (path.as_bytes(), query.as_bytes()), "{target}");
        };
        check("/search?q=a?b", "/search", "q=a?b");
        check("/search", "/search", "");
        check("*", "*", "");
        check("", "", "");
        check("http://shop.example/search?q=a", "/search", "q=a");
        check("http://shop.example", "", "");
        check("//search?q=a", "//search", "q=a");
    }

    #[test]
    fn http_1_1_needs_a_host() {
        let check = |target: &str, version: http::Version, host: Option<&str>, refused: bool| {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            request.set_version(version);
            if let Some(host) = host {
                request.append_header("host", host).unwrap();
            }
            assert_eq!(hostless(&request).is_some(), refused, "{target} {version:?} {host:?}");
        };
        check("/a", http::Version::HTTP_11, None, true);
        check("/a", http::Version::HTTP_11, Some("s"), false);
        check("/a", http::Version::HTTP_11, Some(""), false);
        check("http://s/a", http::Version::HTTP_11, None, false);
        check("/a", http::Version::HTTP_10, None, false);
        check("/a", http::Version::HTTP_2, None, false);
    }

    #[test]
    fn headers_have_a_bound() {
        let mut request = RequestHeader::build("GET", b"/search", None).unwrap();
        assert!(too_large(&request, 1_000).is_none());
        request.append_header("x", "y".repeat(1_000)).unwrap();
        assert!(too_large(&request, 1_000).unwrap().detail.contains("may have 1000"));
        assert!(too_large(&request, 2_000).is_none());
        for _ in 0..MAX_HEADER_LINES {
            request.append_header("a", "b").unwrap();
        }
        assert!(too_large(&request, 100_000).unwrap().detail.contains("129 header lines"));
    }
}
