use super::*;
use penstock_config::policy::{FileSet, Policy};
use std::time::UNIX_EPOCH;

const RULE: &str = "[pages.paths.a]\npath = \"/*\"\n";

fn rule(more: &str) -> PageRule {
    let files = FileSet::of([("cache.toml", format!("{RULE}{more}"))]);
    Policy::from_files(&files).unwrap().0.cache.pages.rules[0].clone()
}

/// 2024-01-01T00:00:00Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_704_067_200)
}

fn http_date(seconds_from_now: i64) -> String {
    let offset = Duration::from_secs(seconds_from_now.unsigned_abs());
    httpdate::fmt_http_date(if seconds_from_now < 0 { now() - offset } else { now() + offset })
}

fn answer(status: u16, lines: &[(&'static str, &str)]) -> ResponseHeader {
    let mut answer = ResponseHeader::build(status, None).unwrap();
    answer.append_header("content-length", "3").unwrap();
    for (name, value) in lines {
        answer.append_header(*name, *value).unwrap();
    }
    answer
}

fn judged(answer: &ResponseHeader, rule: &PageRule, delay: u64) -> Result<Life, &'static str> {
    let arrival = Arrival::of(&answer.headers, now(), Duration::from_secs(delay));
    life(answer, rule, Asked::default(), &arrival)
}

fn cc(value: &str) -> (&'static str, &str) {
    ("cache-control", value)
}

#[test]
fn what_is_never_kept() {
    let rule = rule("ttl = \"1m\"\n");
    let check = |status: u16, lines: &[(&'static str, &str)], why: &str| {
        assert_eq!(judged(&answer(status, lines), &rule, 0), Err(why), "{status} {lines:?}");
    };
    for status in [206, 304, 400, 401, 403, 407, 429, 500, 502, 503, 504] {
        check(status, &[cc("max-age=60")], PASSING);
    }
    check(200, &[cc("max-age=60"), ("set-cookie", "a=1")], "it sets a cookie");
    check(200, &[cc("max-age=60"), ("content-range", "bytes 0-1/3")], "it is a part");
    check(200, &[cc("public, max-age=60, no-store")], "it says no-store");
    check(200, &[cc("max-age=60"), cc("Private")], "it is private");
    check(200, &[cc("private=\"x-user\", max-age=60")], "it is private");
    check(200, &[cc("max-age=60"), ("vary", "accept, *")], "it varies with everything");
    check(200, &[cc("max-age=0")], TOO_OLD);
    check(200, &[cc("no-cache")], TOO_OLD);
    check(302, &[], "it does not say how long it is good");
    let asked = Asked { no_store: true, ..Asked::default() };
    let fine = answer(200, &[cc("max-age=60")]);
    let arrival = Arrival::of(&fine.headers, now(), Duration::ZERO);
    assert_eq!(life(&fine, &rule, asked, &arrival), Err(ASKED_NOT_TO_KEEP));
}

#[test]
fn an_answer_whose_end_is_the_connections_is_not_kept() {
    let rule = rule("ttl = \"1m\"\n");
    let mut cut = ResponseHeader::build(200, None).unwrap();
    assert!(judged(&cut, &rule, 0).is_err());
    cut.insert_header("transfer-encoding", "chunked").unwrap();
    assert!(judged(&cut, &rule, 0).is_ok());
    let mut streamed = ResponseHeader::build(200, None).unwrap();
    streamed.set_version(Version::HTTP_2);
    assert!(judged(&streamed, &rule, 0).is_ok());
    assert!(judged(&ResponseHeader::build(204, None).unwrap(), &rule, 0).is_ok());
}

#[test]
fn how_long_an_answer_is_good() {
    let rule = rule("max_ttl = \"1h\"\nttl = \"7s\"\n");
    let check = |status: u16, lines: &[(&'static str, &str)], delay: u64, left: u64, age: u64| {
        let life = judged(&answer(status, lines), &rule, delay).unwrap();
        assert_eq!((life.left.as_secs(), life.age.as_secs()), (left, age), "{lines:?}");
    };
    check(200, &[cc("max-age=60")], 0, 60, 0);
    check(302, &[cc("max-age=60")], 0, 60, 0);
    check(200, &[cc("max-age=60, s-maxage=30")], 0, 30, 0);
    check(200, &[cc("s-maxage=90, max-age=30")], 0, 90, 0);
    // The slower it came and the more caches it came through, the older it is.
    check(200, &[cc("max-age=60")], 5, 55, 5);
    check(200, &[cc("max-age=60"), ("age", "20")], 5, 35, 25);
    check(200, &[cc("max-age=60"), ("date", &http_date(-30)), ("age", "20")], 5, 30, 30);
    check(200, &[cc("max-age=60"), ("date", &http_date(30))], 0, 60, 0);
    check(200, &[cc("max-age=60"), ("date", "nonsense")], 0, 60, 0);
    // Expires, which the others overrule.
    let (made, ends) = (http_date(-10), http_date(20));
    check(200, &[("date", &made), ("expires", &ends)], 0, 20, 10);
    check(200, &[("expires", &ends)], 0, 20, 0);
    check(200, &[cc("max-age=60"), ("expires", &ends)], 0, 60, 0);
    // Nothing said.
    for status in LASTING {
        check(status, &[], 0, 7, 0);
    }
    check(200, &[cc("public")], 0, 7, 0);
    check(200, &[("age", "2")], 0, 5, 2);
    // No longer than the rule lets it.
    check(200, &[cc("max-age=86400")], 0, 3_600, 0);
    // Stale at once, but worth asking about.
    check(200, &[cc("max-age=0"), ("etag", "\"a\"")], 0, 0, 0);
    check(200, &[cc("no-cache, max-age=60"), ("etag", "\"a\"")], 0, 0, 0);
    check(200, &[("expires", "0"), ("last-modified", &made)], 0, 0, 0);
    check(200, &[("expires", &ends), ("expires", &ends), ("etag", "\"a\"")], 0, 0, 0);
}

#[test]
fn how_long_a_stale_answer_is_served() {
    let of_rule = rule("stale_while_revalidate = \"10s\"\nstale_if_error = \"20s\"\n");
    let check = |control: &str, while_asking: u64, while_failing: u64| {
        let life = judged(&answer(200, &[cc(control), ("etag", "\"a\"")]), &of_rule, 0).unwrap();
        let seen = (life.stale_while_revalidate.as_secs(), life.stale_if_error.as_secs());
        assert_eq!(seen, (while_asking, while_failing), "{control}");
    };
    check("max-age=60", 10, 20);
    check("max-age=60, stale-while-revalidate=1, stale-if-error=2", 1, 2);
    check("max-age=60, stale-while-revalidate=0", 0, 20);
    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"] {
        check(&format!("max-age=60, stale-if-error=2, {strict}"), 0, 0);
    }
    // Kept for the day the application fails.
    let life = judged(&answer(200, &[cc("max-age=0")]), &of_rule, 0).unwrap();
    assert!(life.left.is_zero());
}
