//! A request's way past what is kept: what each of Pingora's phases asks.

use super::freshness::{self, Arrival};
use super::store::Kept;
use super::turns::{LONGEST_WAIT, MOST_TURNS};
use super::{Page, key};
use crate::app::App;
use crate::context::Context;
use crate::decision::{Cache, CacheOutcome, Decision};
use crate::identity::keys::Keyed;
use crate::respond::{Kind, Problem};
use crate::upstream;
use http::{HeaderMap, HeaderName, StatusCode, header};
use penstock_config::policy::PageRule;
use pingora::cache::key::HashBinary;
use pingora::cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, NoCacheReason,
    RespCacheable,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{RangeType, Session, range_header_filter};
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a request has to do with what is kept.
#[derive(Debug, Default)]
pub struct Visit {
    /// A rule is about it: the client is told what became of it.
    covered: bool,
    page: Option<Box<Page>>,
    changes: Option<HashBinary>,
    /// A stale answer is served because no server is healthy.
    outage: bool,
    /// What the application's answer said of its making.
    arrival: Option<Arrival>,
    /// The headers of an answer that said that what is kept is still good.
    still_good: Option<HeaderMap>,
}

impl Visit {
    pub(super) fn bypass(&mut self, decision: &mut Decision, why: &'static str) {
        self.covered = true;
        decision.cache = Cache { outcome: CacheOutcome::Bypass, why };
    }

    pub(super) fn of(&mut self, decision: &mut Decision, page: Box<Page>) {
        self.covered = true;
        self.page = Some(page);
        decision.cache = Cache { outcome: CacheOutcome::Miss, why: "nothing kept could be served" };
    }

    pub(super) fn changes(&mut self, page: HashBinary) {
        self.changes = Some(page);
    }

    /// It may be answered from what is kept.
    pub fn is_of_page(&self) -> bool {
        self.page.is_some()
    }
}

fn now(app: &App) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(app.clock.unix_micros().unsigned_abs())
}

/// The page and its rule; the rule is in the policy the request carries.
fn page(ctx: &Context) -> Option<(&Page, &PageRule)> {
    let page = ctx.visit.page.as_deref()?;
    Some((page, ctx.policy.cache.pages.rules.get(page.rule)?))
}

/// Lets Pingora look up what is kept.
pub fn enable(app: &App, session: &mut Session, ctx: &Context) {
    if !ctx.visit.is_of_page() {
        return;
    }
    let mut options = CacheOptionOverrides::default();
    options.wait_timeout = Some(LONGEST_WAIT);
    options.max_lock_retries = Some(MOST_TURNS);
    let pages = app.pages;
    let cache = &mut session.cache;
    cache.enable(pages.store, None, Some(pages.unkept), Some(pages.turns), Some(options));
    let largest = usize::try_from(ctx.policy.cache.pages.largest_body).unwrap_or(usize::MAX);
    cache.set_max_file_size_bytes(largest);
}

/// The key of the page.
pub fn key(ctx: &Context) -> Result<CacheKey> {
    let Some((page, _)) = page(ctx) else {
        return Error::e_explain(ErrorType::InternalError, "no page, no key");
    };
    let mut key = CacheKey::new(Vec::new(), "");
    key.set_primary_bin_override(page.place.page);
    key.extensions.insert(page.place.clone());
    Ok(key)
}

/// Which variant of a kept answer the request means.
pub fn variance(meta: &CacheMeta, ctx: &Context, request: &RequestHeader) -> Option<HashBinary> {
    let (_, rule) = page(ctx)?;
    key::variance(meta.headers(), request, rule.ignore_cookies)
}

/// Whether a kept answer is taken for another than it is: one that is good for one that is not because
/// the client wants the application asked, one that is not for good because there is nobody to ask.
pub fn force(
    app: &App,
    session: &mut Session,
    meta: &CacheMeta,
    is_fresh: bool,
    ctx: &mut Context,
) -> Option<ForcedFreshness> {
    let (page, rule) = page(ctx)?;
    let never_fresh =
        meta.extensions().get::<Arc<Kept>>().is_some_and(|kept| kept.times.never_fresh);
    if never_fresh && meta.stale_while_revalidate_sec() == 0 {
        // The one before in line would bring nothing that this one may use.
        session.cache.set_cache_lock(None, None);
    }
    let now = now(app);
    let since = |earlier, later: SystemTime| later.duration_since(earlier).unwrap_or_default();
    let age = since(meta.epoch(), now).as_secs();
    let left = since(now, meta.fresh_until()).as_secs();
    let may_bypass = ctx.decision.client.key.as_ref().is_some_and(Keyed::may_bypass_cache);
    if (rule.obey_no_cache || may_bypass) && page.asked.refuses(age, left) {
        return Some(ForcedFreshness::ForceExpired);
    }
    // Without an attempt: after one that failed, Pingora closes the client's connection.
    let outage = !is_fresh && !app.upstream.any_healthy() && meta.serve_stale_if_error(now);
    ctx.visit.outage = outage;
    outage.then_some(ForcedFreshness::ForceFresh)
}

/// Why the application is not asked: nothing that is kept could be served, and there is nobody to ask
/// or the client does not want it.
pub fn refusal(app: &App, session: &Session, ctx: &Context) -> Option<Problem> {
    let (page, _) = page(ctx)?;
    if page.asked.only_if_cached {
        return Some(Problem::new(
            Kind::NotKept,
            "the request says only-if-cached, and nothing that could be served is kept",
        ));
    }
    let stale = session.cache.can_serve_stale_error();
    (!stale && !app.upstream.any_healthy()).then(upstream::unavailable)
}

/// Leaves out of the request what the page does not depend on.
pub fn prepare(request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let Some((page, rule)) = page(ctx) else { return Ok(()) };
    if rule.ignore_cookies {
        request.remove_header(&header::COOKIE);
    }
    if let Some(target) = &page.target {
        let mut parts = request.uri.clone().into_parts();
        parts.path_and_query = Some(target.clone());
        let uri = http::Uri::from_parts(parts).map_err(|error| {
            Error::because(ErrorType::InternalError, "writing the target of a page", error)
        })?;
        request.set_uri(uri);
    }
    Ok(())
}

/// Looks at what the application answered.
pub fn arrived(app: &App, answer: &ResponseHeader, ctx: &mut Context) {
    if !ctx.visit.is_of_page() || answer.status.is_informational() {
        return;
    }
    let delay = app.clock.now() - ctx.attempt_began.unwrap_or(ctx.began);
    ctx.visit.arrival = Some(Arrival::of(&answer.headers, now(app), delay));
    ctx.visit.still_good =
        (answer.status == StatusCode::NOT_MODIFIED).then(|| answer.headers.clone());
}

/// Whether an answer is kept, and for how long. For one that was found good again it is asked with the
/// answer that is kept.
pub fn judge(app: &App, answer: &ResponseHeader, ctx: &Context) -> RespCacheable {
    let Some((page, rule)) = page(ctx) else {
        return RespCacheable::Uncacheable(NoCacheReason::Custom("no page"));
    };
    let now = now(app);
    let arrival = ctx.visit.arrival;
    let arrival = arrival.unwrap_or_else(|| Arrival::of(&answer.headers, now, Duration::ZERO));
    let mut answer = answer.clone();
    if let Some(newer) = &ctx.visit.still_good {
        update(&mut answer, newer);
    }
    match freshness::life(&answer, rule, page.asked, &arrival) {
        Err(why) => RespCacheable::Uncacheable(NoCacheReason::Custom(why)),
        Ok(life) => {
            let whole_seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
            // Good until its last second is over: one that is good for none is over.
            let fresh_until = if life.left.is_zero() {
                now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
            } else {
                now + life.left
            };
            keep_only_what_lasts(&mut answer, now);
            let mut meta = CacheMeta::new(
                fresh_until,
                now,
                whole_seconds(life.stale_while_revalidate),
                whole_seconds(life.stale_if_error),
                answer,
            );
            meta.set_epoch_override(now.checked_sub(life.age).unwrap_or(UNIX_EPOCH));
            RespCacheable::Cacheable(meta)
        }
    }
}

/// Headers of a kept answer that are about its body and stay (RFC 9111, 3.2), and those that are
/// about a connection.
const NOT_UPDATED: [HeaderName; 7] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    // What is kept was chosen by what it said.
    header::VARY,
];

/// Takes over what an answer said that found what is kept still good (RFC 9111, 4.3.4).
fn update(kept: &mut ResponseHeader, newer: &HeaderMap) {
    for name in newer.keys().filter(|name| !NOT_UPDATED.contains(name)) {
        kept.remove_header(name);
        for value in newer.get_all(name) {
            let _ = kept.append_header(name.clone(), value.clone());
        }
    }
}

/// Leaves out what is about one connection or one moment (RFC 9111, 3.1).
fn keep_only_what_lasts(answer: &mut ResponseHeader, now: SystemTime) {
    for name in upstream::named_by_connection(answer) {
        answer.remove_header(&name);
    }
    for name in [
        "age",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        answer.remove_header(name);
    }
    if !answer.headers.contains_key(header::DATE) {
        let _ = answer.insert_header(header::DATE, httpdate::fmt_http_date(now));
    }
}

/// Whether a stale answer is served: while it is fetched anew, and when the application failed in a
/// way that says nothing about the page (RFC 5861, 4). How long after its life is decided by then.
pub fn serves_stale(
    app: &App,
    session: &mut Session,
    ctx: &mut Context,
    error: Option<&Error>,
) -> bool {
    let Some(error) = error else { return true };
    let theirs = *error.esource() == ErrorSource::Upstream;
    let failed = match error.etype() {
        ErrorType::HTTPStatus(status) => matches!(status, 500 | 502 | 503 | 504),
        _ => theirs,
    };
    if failed {
        if theirs && matches!(error.etype(), ErrorType::HTTPStatus(_)) {
            // It did answer; nobody else sees this answer.
            ctx.upstream_answered(app);
        } else {
            // Pingora closes the client's connection after this; the client should know.
            session.set_keepalive(None);
        }
        ctx.decision.error.get_or_insert_with(|| upstream::text_of(error));
    }
    failed
}

/// One range at most: with several, an answer can be made larger than the page.
pub fn range(session: &Session, answer: &mut ResponseHeader) -> RangeType {
    range_header_filter(session.req_header(), answer, Some(2))
}

/// Writes down what became of the request, tells the client, and forgets a page that changed.
pub fn answered(
    app: &App,
    session: &Session,
    ctx: &mut Context,
    answer: &mut ResponseHeader,
) -> Result<()> {
    if answer.status.is_informational() {
        return Ok(());
    }
    let succeeded = answer.status.is_success() || answer.status.is_redirection();
    if let Some(page) = ctx.visit.changes.filter(|_| succeeded)
        && app.pages.store.changed(page)
    {
        app.metrics.pages.invalidated("unsafe_method");
    }
    if ctx.visit.is_of_page() {
        ctx.decision.cache = match session.cache.phase() {
            CachePhase::Hit if ctx.visit.outage => Cache {
                outcome: CacheOutcome::Stale,
                why: "no server of the application is healthy",
            },
            phase => outcome(phase),
        };
    }
    if ctx.visit.covered {
        answer.insert_header("X-Cache", ctx.decision.cache.outcome.name())?;
    }
    Ok(())
}

fn outcome(phase: CachePhase) -> Cache {
    use CacheOutcome::{Bypass, HitL1, Miss, Stale};
    let (outcome, why) = match phase {
        CachePhase::Hit => (HitL1, "kept"),
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            (HitL1, "the application says it is still good")
        }
        CachePhase::Stale => (Stale, "the application failed"),
        CachePhase::StaleUpdating => (Stale, "it is fetched anew meanwhile"),
        CachePhase::Miss => (Miss, "not kept yet"),
        CachePhase::Expired => (Miss, "what was kept is out of date"),
        CachePhase::Disabled(reason) => (Bypass, why(reason)),
        CachePhase::Bypass | CachePhase::Uninit | CachePhase::CacheKey => {
            (Bypass, "its answers could not be kept lately")
        }
    };
    Cache { outcome, why }
}

fn why(reason: NoCacheReason) -> &'static str {
    use NoCacheReason as R;
    match reason {
        R::Custom(why) => why,
        R::ResponseTooLarge | R::PredictedResponseTooLarge => "it is larger than what is kept",
        R::StorageError => "there was no room for it",
        R::CacheLockGiveUp => "another request found that it is not kept",
        R::CacheLockTimeout | R::CacheLockRetryLimit => "another request took too long to fetch it",
        R::Deferred => "its answers could not be kept lately",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests;
