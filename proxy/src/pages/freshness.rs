//! Whether an answer may be kept, and for how long (RFC 9111, 3 and 4.2): a pure function.
//!
//! What is said here about an answer is said once, when it arrives. The answer "no" carries its
//! reason, which is what the decision record shows.

use super::control::{Asked, Control, seconds};
use super::key;
use http::{HeaderMap, StatusCode, Version, header};
use penstock_config::policy::PageRule;
use pingora::http::ResponseHeader;
use std::time::{Duration, SystemTime};

/// The request did not want it kept: says nothing about the next one.
pub const ASKED_NOT_TO_KEEP: &str = "the request says no-store";
/// An answer of the moment: says nothing about the next one.
pub const PASSING: &str = "an answer with this status is not kept";
/// Everything else about the answer may be right: says nothing about the next one.
pub const TOO_OLD: &str = "it was stale when it came";

/// Reasons that are about one request or one answer, and not about the page.
pub fn is_passing(why: &str) -> bool {
    [ASKED_NOT_TO_KEEP, PASSING, TOO_OLD].contains(&why)
}

/// How long an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// What is left of it, in whole seconds.
    pub left: Duration,
    /// How old it was when it came.
    pub age: Duration,
    /// After its life: served so long while it is fetched anew.
    pub stale_while_revalidate: Duration,
    /// … while the application fails.
    pub stale_if_error: Duration,
}

/// When an answer was made and came, as its headers and our clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Now.
    pub now: SystemTime,
    /// From asking for it to its header.
    pub delay: Duration,
    /// Its `Date`.
    pub date: Option<SystemTime>,
    /// Its `Age`.
    pub age: Duration,
}

impl Arrival {
    /// With `Date` and `Age` of these headers.
    pub fn of(headers: &HeaderMap, now: SystemTime, delay: Duration) -> Self {
        let age = headers.get_all(header::AGE).iter().filter_map(|age| age.to_str().ok());
        Self {
            now,
            delay,
            date: date(headers, &header::DATE),
            // Of several, the greatest: an answer that went through more caches is older.
            age: Duration::from_secs(age.map(seconds).max().unwrap_or(0)),
        }
    }

    /// How old it is (RFC 9111, 4.2.3), in whole seconds as everything that is compared with it: a
    /// life of a second is not over when it took a millisecond to come.
    fn initial_age(&self) -> Duration {
        let apparent = self.date.and_then(|date| self.now.duration_since(date).ok());
        let age = apparent.unwrap_or_default().max(self.age + self.delay);
        Duration::from_secs(age.as_secs())
    }
}

/// A header that is a time; `None`: it is not there, stands twice or cannot be read.
pub fn date(headers: &HeaderMap, name: &http::HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let text = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(text).ok()
}

/// Statuses whose answers may be kept although they say nothing of a life (RFC 9110, 15.1). 206 is
/// not among them: parts are not kept.
const LASTING: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
/// … and those whose answers may be kept where they do.
const WITH_A_LIFE: [u16; 3] = [302, 303, 307];

/// How long an answer may be kept, or why it may not.
pub fn life(
    answer: &ResponseHeader,
    rule: &PageRule,
    asked: Asked,
    arrival: &Arrival,
) -> Result<Life, &'static str> {
    let headers = &answer.headers;
    if asked.no_store {
        return Err(ASKED_NOT_TO_KEEP);
    }
    let status = answer.status.as_u16();
    let lasting = LASTING.contains(&status);
    if !lasting && !WITH_A_LIFE.contains(&status) {
        return Err(PASSING);
    }
    if headers.contains_key(header::SET_COOKIE) {
        return Err("it sets a cookie");
    }
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err("it is a part");
    }
    let control = Control::of(headers);
    if control.has("no-store") {
        return Err("it says no-store");
    }
    if control.has("private") {
        return Err("it is private");
    }
    key::can_vary(headers)?;
    if may_be_cut(answer) {
        return Err("its end cannot be told from a broken connection");
    }
    let validators =
        headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    let no_cache = control.has("no-cache");
    let whole = if no_cache {
        Duration::ZERO
    } else {
        let said = said_life(&control, headers, arrival);
        let unsaid = (lasting && !rule.ttl.is_zero()).then_some(rule.ttl);
        said.or(unsaid).ok_or("it does not say how long it is good")?.min(rule.max_ttl)
    };
    let age = arrival.initial_age();
    let left = whole.saturating_sub(age);
    // RFC 9111, 5.2.2.10: s-maxage includes proxy-revalidate.
    let strict = no_cache
        || ["must-revalidate", "proxy-revalidate", "s-maxage"].iter().any(|name| control.has(name));
    let stale = |name: &str, by_rule: Duration| {
        let said = control.seconds(name).map(Duration::from_secs);
        if strict { Duration::ZERO } else { said.unwrap_or(by_rule) }
    };
    let life = Life {
        left,
        age,
        stale_while_revalidate: stale("stale-while-revalidate", rule.stale_while_revalidate),
        stale_if_error: stale("stale-if-error", rule.stale_if_error),
    };
    let useless = left.is_zero()
        && !validators
        && life.stale_while_revalidate.is_zero()
        && life.stale_if_error.is_zero();
    if useless { Err(TOO_OLD) } else { Ok(life) }
}

/// The life an answer says it has (RFC 9111, 4.2.1).
fn said_life(control: &Control, headers: &HeaderMap, arrival: &Arrival) -> Option<Duration> {
    let seconds = control.seconds("s-maxage").or_else(|| control.seconds("max-age"));
    if let Some(seconds) = seconds {
        return Some(Duration::from_secs(seconds));
    }
    if !headers.contains_key(header::EXPIRES) {
        return None;
    }
    // What cannot be read, or stands twice, is in the past.
    let made = arrival.date.unwrap_or(arrival.now);
    let until = date(headers, &header::EXPIRES);
    Some(until.and_then(|until| until.duration_since(made).ok()).unwrap_or_default())
}

/// The body ends where the connection does (RFC 9112, 6.3): half of it looks like a whole one.
fn may_be_cut(answer: &ResponseHeader) -> bool {
    let headers = &answer.headers;
    let bodyless = matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framed = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING);
    answer.version < Version::HTTP_2 && !bodyless && !framed
}

#[cfg(test)]
mod tests;
