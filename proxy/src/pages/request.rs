//! Which requests may be answered from what is kept.

use super::control::Asked;
use super::key::{self, Origin};
use super::store::{Place, Store};
use crate::identity::credential;
use http::uri::PathAndQuery;
use http::{Method, header};
use penstock_config::policy::{PageRule, Pages as Policy, PathPattern};
use pingora::cache::key::HashBinary;
use pingora::http::RequestHeader;

/// What the rules say about a request.
#[derive(Debug)]
pub enum Considered {
    /// Nothing.
    Nothing,
    /// It is about a page, but not to be answered from what is kept.
    Bypass(&'static str),
    /// It may be answered from what is kept.
    Page(Box<Page>),
    /// If it succeeds, the page under this key is another.
    Changes(HashBinary),
}

/// A request that may be answered from what is kept.
#[derive(Debug)]
pub struct Page {
    /// Position of its rule.
    pub rule: usize,
    /// Where the page is.
    pub place: Place,
    /// What the application is asked for, where it is not what the client wrote.
    pub target: Option<PathAndQuery>,
    /// What the request wants of a cache.
    pub asked: Asked,
}

/// Judges a request: `tls` and `trusted` as in [`Origin`].
pub fn consider(
    store: &Store,
    policy: &Policy,
    request: &RequestHeader,
    tls: bool,
    trusted: bool,
) -> Considered {
    // Absolute targets and what is no text are passed through as they are.
    let Some(written) = std::str::from_utf8(request.raw_path()).ok() else {
        return Considered::Nothing;
    };
    if !written.starts_with('/') {
        return Considered::Nothing;
    }
    let (path, query) = match written.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (written, None),
    };
    let folded = PathPattern::folded(path.as_bytes());
    let Some((position, rule)) = policy.rule(&folded).filter(|(_, rule)| rule.enabled) else {
        return Considered::Nothing;
    };
    if !reads_one_way(path) || !PathPattern::is_plain(&folded) {
        return Considered::Bypass("the path can be read in more than one way");
    }
    let Some(authority) = key::authority(request) else {
        return Considered::Bypass("it names no host, or several");
    };
    let target = key::target(path, query, &rule.query);
    let page = key::primary(request, Origin { tls, trusted, authority: &authority }, &target);
    match request.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS | Method::TRACE => return Considered::Nothing,
        _ => return Considered::Changes(page),
    }
    if let Some(why) = unfit(request, rule).or_else(|| needs_whole(request, store, &page)) {
        return Considered::Bypass(why);
    }
    let target = if target == written {
        None
    } else {
        match PathAndQuery::try_from(target) {
            Ok(target) => Some(target),
            Err(_) => return Considered::Bypass("its query cannot be written"),
        }
    };
    Considered::Page(Box::new(Page {
        rule: position,
        place: Place {
            page,
            host: authority.into(),
            path: folded.into(),
            asked_at: store.latest_change(),
        },
        target,
        asked: Asked::of(&request.headers),
    }))
}

/// Servers differ in what they take for a slash, a dot or an end. Where they do, one may answer with a
/// page of one person what the rule takes for a page of everybody.
fn reads_one_way(path: &str) -> bool {
    const ENCODED: [&str; 10] =
        ["%2f", "%5c", "%2e", "%00", "%0a", "%0d", "%23", "%25", "%3b", "%3f"];
    let lower = path.to_ascii_lowercase();
    !path.contains(['\\', ';', '#'])
        && !ENCODED.iter().any(|encoded| lower.contains(encoded))
        && !path.contains("//")
        && !path.split('/').any(|segment| segment == "." || segment == "..")
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Why a request is passed through; `None`: it need not be.
fn unfit(request: &RequestHeader, rule: &PageRule) -> Option<&'static str> {
    let headers = &request.headers;
    let has = |name| headers.contains_key(name);
    if credential::carries_others(headers) || has(header::PROXY_AUTHORIZATION) {
        // RFC 9111, 3.5 would allow some; who logs in gets no page of everybody's, and leaves none.
        return Some("the request has credentials");
    }
    if !rule.ignore_cookies && has(header::COOKIE) {
        return Some("the request has a cookie");
    }
    if has(header::UPGRADE) {
        return Some("the request is for another protocol");
    }
    let body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if body || has(header::TRANSFER_ENCODING) {
        return Some("the request has a body");
    }
    if has(header::IF_MATCH) || has(header::IF_UNMODIFIED_SINCE) {
        return Some("the request has a condition that the application judges");
    }
    None
}

/// A part or a header alone is not worth fetching the whole for.
fn needs_whole(request: &RequestHeader, store: &Store, page: &HashBinary) -> Option<&'static str> {
    let part = request.method == Method::HEAD || request.headers.contains_key(header::RANGE);
    (part && !store.has(page)).then_some("it asks for a part of what is not kept")
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::policy::{FileSet, Policy as Whole};

    fn policy(text: &str) -> Policy {
        let files = FileSet::of([("cache.toml", text)]);
        Whole::from_files(&files).unwrap().0.cache.pages
    }

    fn considered(policy: &Policy, line: &str, lines: &[(&'static str, &str)]) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        for (name, value) in [("host", "shop")].iter().chain(lines) {
            request.append_header(*name, *value).unwrap();
        }
        match consider(&Store::new(), policy, &request, false, false) {
            Considered::Nothing => "nothing".into(),
            Considered::Bypass(why) => why.into(),
            Considered::Changes(_) => "changes".into(),
            Considered::Page(page) => {
                page.target.as_ref().map_or("page".into(), |target| format!("page {target}"))
            }
        }
    }

    #[test]
    fn what_may_be_answered_from_what_is_kept() {
        let policy = policy(
            "[pages.paths.a]\npath = \"/a/*\"\nignore_query = [\"utm\"]\n\
             [pages.paths.b]\npath = \"/a/own/*\"\nenabled = false\n\
             [pages.paths.c]\npath = \"/free\"\ncookies = \"ignore\"\nquery = \"none\"\n",
        );
        let check = |line: &str, lines: &[(&'static str, &str)], expected: &str| {
            assert_eq!(considered(&policy, line, lines), expected, "{line} {lines:?}");
        };
        let credentials = "the request has credentials";
        check("GET /a", &[], "page");
        check("GET /a/", &[], "page");
        check("GET /a/x?y=1", &[], "page");
        check("GET /a/x?utm=1&y=2", &[], "page /a/x?y=2");
        check("GET /free?utm=1", &[("cookie", "a=1")], "page /free");
        check("GET /b", &[], "nothing");
        check("GET /a/own/x", &[], "nothing");
        check("GET http://shop/a", &[], "nothing");
        check("OPTIONS /a", &[], "nothing");
        for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE"] {
            check(&format!("{method} /a/x"), &[], "changes");
        }
        check("GET /a/x", &[("authorization", "Bearer eyJ")], credentials);
        check("GET /a/x", &[("authorization", "Basic eA==")], credentials);
        check("GET /a/x", &[("x-api-key", "theirs")], credentials);
        // A key of ours ends here.
        check("GET /a/x", &[("authorization", "Bearer psk_a"), ("x-api-key", "psk_a")], "page");
        check("GET /a/x", &[("cookie", "a=1")], "the request has a cookie");
        check("GET /a/x", &[("upgrade", "websocket")], "the request is for another protocol");
        check("GET /a/x", &[("content-length", "5")], "the request has a body");
        check("GET /a/x", &[("content-length", "0")], "page");
        check("GET /a/x", &[("transfer-encoding", "chunked")], "the request has a body");
        check("GET /a/x", &[("host", "evil")], "it names no host, or several");
        let condition = "the request has a condition that the application judges";
        check("GET /a/x", &[("if-match", "\"a\"")], condition);
        check("GET /a/x", &[("if-none-match", "\"a\"")], "page");
        check("GET /a/x", &[("range", "bytes=0-1")], "it asks for a part of what is not kept");
        check("HEAD /a/x", &[], "it asks for a part of what is not kept");
    }

    #[test]
    fn paths_that_servers_read_differently_are_passed_through() {
        let policy = policy("[pages.paths.a]\npath = \"/a/*\"\n");
        let more_than_one = "the path can be read in more than one way";
        for path in [
            "/a/../account",
            "/a/%2e%2e/account",
            "/a/..%2faccount",
            "/a/.%2e/x",
            "/a//x",
            "//a/x",
            "/a/./x",
            "/a/x;y",
            "/a/x%3by",
            "/a/x%00",
            "/a/x%23",
            "/a/x%3fy",
            "/a\\x",
            "/a/%5cx",
            "/account/../a/x",
            "/a/%252e",
            "/a/x%0ay",
        ] {
            assert_eq!(considered(&policy, &format!("GET {path}"), &[]), more_than_one, "{path}");
        }
        assert_eq!(considered(&policy, "GET /a/%C3%A9", &[]), "page");
    }
}
