//! What an answer is kept under.
//!
//! The key has everything the application may have made the answer from that the request names:
//! scheme, authority, path, the query, and the headers by which frameworks let a request name another
//! page than its address does. What the rule leaves out of it is left out of the request as well.
//! Parts are written with their lengths, so that no two requests share a key by how their parts are
//! cut. What else an answer depends on, it says in `Vary`.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use penstock_config::policy::PageQuery;
use pingora::cache::VarianceBuilder;
use pingora::cache::key::{HashBinary, hash_key};
use pingora::http::RequestHeader;

/// Headers that applications take for a part of the address, whoever wrote them.
const NAMING: [&str; 13] = [
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-url-scheme",
    "front-end-https",
];
/// … that reach the application only from a proxy we trust.
const NAMING_IF_TRUSTED: [&str; 3] = ["x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];
/// Headers that are in the key or that nobody but us writes: `Vary` may name them for nothing.
const IN_THE_KEY: [&str; 4] = ["host", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];
/// Headers that differ with every client or request: an answer that varies with them is for one.
const OF_ONE_CLIENT: [&str; 7] = [
    "authorization",
    "forwarded",
    "traceparent",
    "tracestate",
    "x-api-key",
    "x-forwarded-for",
    "x-real-ip",
];
/// An answer that varies with more headers is not kept.
const MOST_VARYING: usize = 16;

/// Where a request goes: what is not in its target.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'r> {
    /// The connection is TLS.
    pub tls: bool,
    /// It came through a proxy whose word counts.
    pub trusted: bool,
    /// As in `Host` or `:authority`.
    pub authority: &'r str,
}

/// The one authority a request names; `None`: none, or several that differ.
pub fn authority(request: &RequestHeader) -> Option<String> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = match hosts.next() {
        Some(host) => Some(host.to_str().ok()?),
        None => None,
    };
    if hosts.next().is_some() {
        return None;
    }
    let named = request.uri.authority().map(http::uri::Authority::as_str);
    match (host, named) {
        (Some(host), Some(named)) if !host.eq_ignore_ascii_case(named) => None,
        (Some(one), _) | (None, Some(one)) if !one.is_empty() => Some(one.to_ascii_lowercase()),
        _ => None,
    }
}

/// The target with the parameters that count, as they stand and in their order.
pub fn target(path: &str, query: Option<&str>, rule: &PageQuery) -> String {
    let Some(query) = query else { return path.to_owned() };
    if *rule == PageQuery::AllBut(Vec::new()) {
        return format!("{path}?{query}");
    }
    let counted: Vec<&str> = query
        .split('&')
        .filter(|parameter| rule.counts(parameter.split('=').next().unwrap_or_default()))
        .collect();
    if counted.is_empty() { path.to_owned() } else { format!("{path}?{}", counted.join("&")) }
}

/// The key of a request to `target`.
pub fn primary(request: &RequestHeader, origin: Origin<'_>, target: &str) -> HashBinary {
    let mut key = Vec::with_capacity(128);
    let mut part = |part: &[u8]| {
        key.extend_from_slice(&(part.len() as u64).to_be_bytes());
        key.extend_from_slice(part);
    };
    part(if origin.tls { b"https" } else { b"http" });
    part(origin.authority.as_bytes());
    part(target.as_bytes());
    for (name, value) in &request.headers {
        let dashed = name.as_str().replace('_', "-");
        let names = NAMING.contains(&dashed.as_str())
            || (origin.trusted && NAMING_IF_TRUSTED.contains(&dashed.as_str()));
        if names {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        } else if origin.trusted && *name == header::FORWARDED {
            part(b"forwarded");
            part(&forwarded_address(value));
        }
    }
    hash_key(key)
}

/// What `Forwarded` says of the address, without who asked.
fn forwarded_address(value: &HeaderValue) -> Vec<u8> {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let pairs = text.split([',', ';']).map(str::trim);
    let kept: Vec<&str> =
        pairs.filter(|pair| !pair.starts_with("for=") && !pair.starts_with("by=")).collect();
    kept.join(";").into_bytes()
}

/// Whether answers with this `Vary` can be told apart by their requests.
pub fn can_vary(answer: &HeaderMap) -> Result<(), &'static str> {
    let mut names = 0;
    for name in varying(answer) {
        names += 1;
        if name == "*" {
            return Err("it varies with everything");
        }
        if OF_ONE_CLIENT.contains(&name.as_str()) {
            return Err("it varies with who asks");
        }
    }
    if names > MOST_VARYING { Err("it varies with too much") } else { Ok(()) }
}

/// The names in `Vary`, in lower case.
fn varying(answer: &HeaderMap) -> impl Iterator<Item = String> {
    let lines = answer.get_all(header::VARY).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

/// Which of the answers under one key is meant by a request; `None`: there is one for all.
pub fn variance(
    answer: &HeaderMap,
    request: &RequestHeader,
    ignore_cookies: bool,
) -> Option<HashBinary> {
    let mut variance = VarianceBuilder::new();
    if answer.contains_key(header::CONTENT_ENCODING) {
        // Applications forget to say so, and not every client can read what another can.
        variance.add_owned_value("accept-encoding", encodings(&request.headers));
    }
    for name in varying(answer) {
        if IN_THE_KEY.contains(&name.as_str()) || (ignore_cookies && name == "cookie") {
            continue;
        }
        let value = request_value(request, &name);
        variance.add_owned_name_value(name, value);
    }
    variance.finalize()
}

/// A header's lines as one value: how many there are is part of it, since an absent header is not an
/// empty one.
fn request_value(request: &RequestHeader, name: &str) -> Vec<u8> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Vec::new() };
    if name == header::ACCEPT_ENCODING {
        return encodings(&request.headers);
    }
    let mut value = Vec::new();
    for line in request.headers.get_all(&name) {
        value.push(b'\n');
        value.extend_from_slice(line.as_bytes().trim_ascii());
    }
    value
}

/// What codings are taken and refused, in one order: browsers write the same set in many ways.
fn encodings(headers: &HeaderMap) -> Vec<u8> {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut known: Vec<String> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.to_ascii_lowercase().strip_prefix("q=")?.parse::<f32>().ok());
            if weight == Some(0.0) { format!("!{name}") } else { name }
        })
        .filter(|name| !name.is_empty())
        .collect();
    known.sort_unstable();
    known.dedup();
    known.join(",").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, lines: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        request("/", lines).headers.clone()
    }

    fn key(lines: &[(&'static str, &str)], origin: Origin<'_>, to: &str) -> HashBinary {
        primary(&request("/", lines), origin, to)
    }

    const PLAIN: Origin<'_> = Origin { tls: false, trusted: false, authority: "a" };

    #[test]
    fn every_part_of_the_address_is_in_the_key() {
        let base = key(&[], PLAIN, "/x?y");
        assert_eq!(key(&[("user-agent", "b"), ("x-forwarded-for", "1")], PLAIN, "/x?y"), base);
        let others = [
            key(&[], Origin { tls: true, ..PLAIN }, "/x?y"),
            key(&[], Origin { authority: "b", ..PLAIN }, "/x?y"),
            key(&[], Origin { authority: "a/x", ..PLAIN }, "?y"),
            key(&[], PLAIN, "/x"),
            key(&[], PLAIN, "/x?Y"),
            key(&[], PLAIN, "/X?y"),
            key(&[("x-original-url", "/z")], PLAIN, "/x?y"),
            key(&[("x_rewrite_url", "/z")], PLAIN, "/x?y"),
            key(&[("x-http-method-override", "POST")], PLAIN, "/x?y"),
            key(&[("x-forwarded-host", "evil")], Origin { trusted: true, ..PLAIN }, "/x?y"),
            key(&[("forwarded", "host=evil")], Origin { trusted: true, ..PLAIN }, "/x?y"),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, base, "{at}");
            assert!(!others[..at].contains(other), "{at}");
        }
        // From who is not trusted they do not reach the application.
        assert_eq!(key(&[("x-forwarded-host", "evil")], PLAIN, "/x?y"), base);
        let trusted = Origin { trusted: true, ..PLAIN };
        let from = |client| key(&[("forwarded", client)], trusted, "/x?y");
        assert_eq!(from("for=1.2.3.4;host=a"), from("For=5.6.7.8; host=a"));
    }

    #[test]
    fn one_authority_or_none() {
        let check = |target: &str, lines: &[(&'static str, &str)], expected: Option<&str>| {
            assert_eq!(authority(&request(target, lines)).as_deref(), expected, "{lines:?}");
        };
        check("/", &[("host", "Shop.Example:80")], Some("shop.example:80"));
        check("/", &[], None);
        check("/", &[("host", "")], None);
        check("/", &[("host", "a"), ("host", "b")], None);
        check("/", &[("host", "a"), ("host", "a")], None);
    }

    #[test]
    fn the_target_has_what_counts() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let all = PageQuery::AllBut(Vec::new());
        let some = PageQuery::AllBut(names(&["utm"]));
        let only = PageQuery::Only(names(&["p", "q"]));
        let check = |query: Option<&str>, rule: &PageQuery, expected: &str| {
            assert_eq!(target("/x", query, rule), expected, "{query:?} {rule:?}");
        };
        check(None, &all, "/x");
        check(Some(""), &all, "/x?");
        check(Some("a=1&&utm=2"), &all, "/x?a=1&&utm=2");
        check(Some("utm=1"), &some, "/x");
        check(Some("b=1&utm=2&a=3&utm"), &some, "/x?b=1&a=3");
        // To us a parameter ends at & only; an application that takes ; for one gets it as it stands.
        check(Some("a=1;utm=2"), &some, "/x?a=1;utm=2");
        check(Some("utm=1;a=2"), &some, "/x");
        check(Some("q=1&x=2&p=3&q=4"), &only, "/x?q=1&p=3&q=4");
        check(Some("%71=1"), &only, "/x");
        check(Some("a=1"), &PageQuery::Only(Vec::new()), "/x");
    }

    #[test]
    fn variants_are_told_apart() {
        let of = |vary: &[&'static str], lines: &[(&'static str, &str)]| {
            let vary: Vec<_> = vary.iter().map(|names| ("vary", *names)).collect();
            variance(&headers(&vary), &request("/", lines), false)
        };
        assert_eq!(of(&[], &[("accept", "a")]), None);
        assert_eq!(of(&["Host, X-Forwarded-Proto"], &[("host", "a")]), None);
        let accept = ["Accept"];
        assert_eq!(of(&accept, &[("accept", "a")]), of(&["ACCEPT,"], &[("accept", " a")]));
        assert_ne!(of(&accept, &[("accept", "a")]), of(&accept, &[("accept", "b")]));
        assert_ne!(of(&accept, &[("accept", "")]), of(&accept, &[]));
        assert_ne!(
            of(&accept, &[("accept", "a"), ("accept", "b")]),
            of(&accept, &[("accept", "ab")])
        );
        // No name takes another's value.
        assert_ne!(
            of(&["accept", "x"], &[("accept", "1"), ("x", "2")]),
            of(&["accept", "x"], &[("accept", "2"), ("x", "1")])
        );
        let codings = |value| of(&["accept-encoding"], &[("accept-encoding", value)]);
        assert_eq!(codings("gzip, br"), codings("BR;q=0.5,gzip"));
        assert_ne!(codings("gzip, br"), codings("gzip"));
        assert_ne!(codings("gzip"), codings("gzip;q=0"));
        // What is encoded varies with who can read it, whether it says so or not.
        let encoded = |vary: &'static str, takes| {
            let answer = headers(&[("content-encoding", "gzip"), ("vary", vary)]);
            variance(&answer, &request("/", &[("accept-encoding", takes)]), false)
        };
        assert_ne!(encoded("", "gzip"), encoded("", "br"));
        assert_eq!(encoded("", "gzip"), encoded("Accept-Encoding", "gzip"));
        let cookie = headers(&[("vary", "cookie")]);
        assert_eq!(variance(&cookie, &request("/", &[("cookie", "a")]), true), None);
        assert!(variance(&cookie, &request("/", &[("cookie", "a")]), false).is_some());
    }

    #[test]
    fn what_varies_with_one_client_is_for_nobody_else() {
        let check = |vary: &str, fine: bool| {
            assert_eq!(can_vary(&headers(&[("vary", vary)])).is_ok(), fine, "{vary}");
        };
        check("accept-encoding, accept-language, cookie, origin", true);
        check("*", false);
        check("accept, *", false);
        check("X-Forwarded-For", false);
        check("Authorization", false);
        check(&"a,".repeat(17), false);
    }
}
