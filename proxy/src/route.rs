//! Where a request goes: one of our endpoints, or through to the shop's own application.
//!
//! The path is cut at its slashes first and decoded afterwards, so that `%2F` in an id is a
//! character of the id and not a border. Paths that are not ours are never looked into: what they
//! mean is the application's business, byte for byte.

use http::Method;
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Longest id in a path, in bytes after decoding. The engine's ids are no longer.
const MAX_ID_BYTES: usize = 256;

/// Methods of the endpoints that are read.
const READS: &str = "GET, HEAD, OPTIONS";
/// Methods of `/events`.
const WRITES: &str = "POST, OPTIONS";

/// What a request is for, by name: the label in metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/search`
    Search,
    /// `/search/explain`
    Explain,
    /// `/recommend/{user_id}`
    Recommend,
    /// `/similar/{product_id}`
    Similar,
    /// `/popular`
    Popular,
    /// `/products/{product_id}`
    Product,
    /// `/events`
    Events,
    /// `/health`
    Health,
    /// Everything else.
    Upstream,
}

impl Endpoint {
    /// All of them; an endpoint's position is `endpoint as usize`.
    pub const ALL: [Self; 9] = [
        Self::Search,
        Self::Explain,
        Self::Recommend,
        Self::Similar,
        Self::Popular,
        Self::Product,
        Self::Events,
        Self::Health,
        Self::Upstream,
    ];

    /// As in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Explain => "explain",
            Self::Recommend => "recommend",
            Self::Similar => "similar",
            Self::Popular => "popular",
            Self::Product => "product",
            Self::Events => "events",
            Self::Health => "health",
            Self::Upstream => "upstream",
        }
    }

    fn methods(self) -> &'static str {
        if self == Self::Events { WRITES } else { READS }
    }
}

/// An endpoint and what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /search`
    Search,
    /// `GET /search/explain`
    Explain,
    /// `GET /recommend/{user_id}`
    Recommend {
        /// For whom.
        user_id: String,
    },
    /// `GET /similar/{product_id}`
    Similar {
        /// To what.
        product_id: String,
    },
    /// `GET /popular`
    Popular,
    /// `GET /products/{product_id}`
    Product {
        /// Which.
        product_id: String,
    },
    /// `POST /events`
    Events,
    /// `GET /health`
    Health,
    /// `OPTIONS` of one of ours: what may be asked.
    Options {
        /// The `Allow` header.
        allow: &'static str,
    },
    /// To the shop's application.
    Upstream,
}

/// Why a request to one of our endpoints is not even looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 400
    #[error("{0}")]
    Path(String),
    /// 405
    #[error("this address takes {allow}")]
    Method {
        /// The `Allow` header.
        allow: &'static str,
    },
}

/// The endpoint a path belongs to, and the route or the refusal. `path` is as sent, without
/// authority and query.
pub fn route(method: &Method, path: &[u8]) -> (Endpoint, Result<Route, Refused>) {
    let Some((endpoint, id)) = endpoint(path) else {
        // An answer to TRACE repeats the request, cookies and all. Nobody needs that from a shop.
        let route = if method == Method::TRACE {
            Err(Refused::Method { allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" })
        } else {
            Ok(Route::Upstream)
        };
        return (Endpoint::Upstream, route);
    };
    (endpoint, ours(method, endpoint, id))
}

fn ours(method: &Method, endpoint: Endpoint, id: Option<&[u8]>) -> Result<Route, Refused> {
    let allow = endpoint.methods();
    if method == Method::OPTIONS {
        return Ok(Route::Options { allow });
    }
    let wanted = if endpoint == Endpoint::Events {
        method == Method::POST
    } else {
        method == Method::GET || method == Method::HEAD
    };
    if !wanted {
        return Err(Refused::Method { allow });
    }
    let id = || decode_id(id.unwrap_or_default());
    Ok(match endpoint {
        Endpoint::Search => Route::Search,
        Endpoint::Explain => Route::Explain,
        Endpoint::Recommend => Route::Recommend { user_id: id()? },
        Endpoint::Similar => Route::Similar { product_id: id()? },
        Endpoint::Popular => Route::Popular,
        Endpoint::Product => Route::Product { product_id: id()? },
        Endpoint::Events => Route::Events,
        Endpoint::Health => Route::Health,
        Endpoint::Upstream => Route::Upstream,
    })
}

/// Which endpoint, and the id in its path as sent. One slash at the end is forgiven.
fn endpoint(path: &[u8]) -> Option<(Endpoint, Option<&[u8]>)> {
    let path = path.strip_prefix(b"/")?;
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let mut segments = path.split(|&byte| byte == b'/');
    // `/%73earch` is `/search` (RFC 3986, 6.2.2.2); a word that cannot be decoded is not ours.
    let first = word(segments.next()?);
    let second = segments.next();
    if segments.next().is_some() {
        return None;
    }
    match (first.as_ref(), second) {
        (b"search", None) => Some((Endpoint::Search, None)),
        (b"search", Some(second)) if word(second).as_ref() == b"explain" => {
            Some((Endpoint::Explain, None))
        }
        (b"popular", None) => Some((Endpoint::Popular, None)),
        (b"events", None) => Some((Endpoint::Events, None)),
        (b"health", None) => Some((Endpoint::Health, None)),
        (b"recommend", Some(id)) if !id.is_empty() => Some((Endpoint::Recommend, Some(id))),
        (b"similar", Some(id)) if !id.is_empty() => Some((Endpoint::Similar, Some(id))),
        (b"products", Some(id)) if !id.is_empty() => Some((Endpoint::Product, Some(id))),
        _ => None,
    }
}

fn word(segment: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(segment).into()
}

fn decode_id(segment: &[u8]) -> Result<String, Refused> {
    let id = decode(segment, Plus::Plus)
        .map_err(|why| Refused::Path(format!("the id in the path {why}")))?;
    if id.len() > MAX_ID_BYTES {
        return Err(Refused::Path(format!(
            "the id in the path has {} bytes; no id is longer than {MAX_ID_BYTES}",
            id.len()
        )));
    }
    Ok(id.into_owned())
}

/// What `+` means: itself in a path, a space in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// In paths.
    Plus,
    /// In queries, as forms write them.
    Space,
}

/// Percent-decodes, strictly. The error completes a sentence ("the id in the path …").
pub(crate) fn decode(text: &[u8], plus: Plus) -> Result<Cow<'_, str>, &'static str> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(
                "has a % that two hexadecimal digits do not follow; write %25 for a percent sign",
            );
        }
        rest = &rest[at + 3..];
    }
    let spaced: Cow<'_, [u8]> = if plus == Plus::Space && text.contains(&b'+') {
        text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect::<Vec<_>>().into()
    } else {
        text.into()
    };
    let bytes = match spaced {
        Cow::Borrowed(bytes) => percent_decode(bytes).into(),
        Cow::Owned(bytes) => Cow::Owned(percent_decode(&bytes).collect::<Vec<_>>()),
    };
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
    }
    .ok_or("is not UTF-8 after percent-decoding")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(path: &str) -> (Endpoint, Result<Route, Refused>) {
        route(&Method::GET, path.as_bytes())
    }

    #[test]
    fn paths() {
        let check = |path: &str, expected: Route| assert_eq!(get(path).1, Ok(expected), "{path}");
        let user = |id: &str| Route::Recommend { user_id: id.into() };
        check("/search", Route::Search);
        check("/search/", Route::Search);
        check("/%73earch", Route::Search);
        check("/search/explain", Route::Explain);
        check("/popular", Route::Popular);
        check("/health", Route::Health);
        check("/recommend/u1", user("u1"));
        check("/recommend/u1/", user("u1"));
        check("/recommend/a%2Fb", user("a/b"));
        check("/recommend/%2F..", user("/.."));
        check("/recommend/..", user(".."));
        check("/recommend/%00", user("\0"));
        check("/recommend/a+b", user("a+b"));
        check("/recommend/%F0%9F%98%80", user("😀"));
        check("/similar/p1", Route::Similar { product_id: "p1".into() });
        check("/products/p1", Route::Product { product_id: "p1".into() });
        // Not ours: through to the application, untouched.
        for path in [
            "/",
            "",
            "*",
            "//search",
            "/search//",
            "/Search",
            "/search/explain/x",
            "/searching",
            "/recommend",
            "/recommend/",
            "/recommend//",
            "/recommend/a/b",
            "/products",
            "/products/",
            "/search/../admin",
            "/./search",
            "/search%2Fexplain",
            "/%",
            "/caf%E9",
            "/%zz",
            "/events/1",
        ] {
            check(path, Route::Upstream);
        }
    }

    #[test]
    fn refused_paths_say_why() {
        let check = |path: &str, why: &str| match get(path) {
            (Endpoint::Recommend, Err(Refused::Path(said))) => {
                assert!(said.contains(why), "{path}: {said}");
            }
            other => panic!("{path}: {other:?}"),
        };
        check("/recommend/%", "write %25");
        check("/recommend/%4", "write %25");
        check("/recommend/%zz", "write %25");
        check("/recommend/%FF", "not UTF-8");
        check(&format!("/recommend/{}", "x".repeat(257)), "257 bytes");
    }

    #[test]
    fn methods() {
        let check = |method: &str, path: &str, expected: Result<Route, &'static str>| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let seen = route(&method, path.as_bytes()).1.map_err(|refused| match refused {
                Refused::Method { allow } => allow,
                Refused::Path(_) => "path",
            });
            assert_eq!(seen, expected, "{method} {path}");
        };
        check("HEAD", "/search", Ok(Route::Search));
        check("POST", "/search", Err(READS));
        check("DELETE", "/recommend/u1", Err(READS));
        check("BREW", "/popular", Err(READS));
        check("TRACE", "/search", Err(READS));
        check("OPTIONS", "/search", Ok(Route::Options { allow: READS }));
        check("OPTIONS", "/recommend/%zz", Ok(Route::Options { allow: READS }));
        check("POST", "/events", Ok(Route::Events));
        check("GET", "/events", Err(WRITES));
        check("OPTIONS", "/events", Ok(Route::Options { allow: WRITES }));
        check("BREW", "/coffee", Ok(Route::Upstream));
        check("TRACE", "/coffee", Err("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }

    #[test]
    fn endpoints_know_their_position() {
        for (position, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!(endpoint as usize, position);
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = route(&Method::GET, &path);
            let _ = route(&Method::GET, &[b"/recommend/", path.as_slice()].concat());
        }

        #[test]
        fn an_id_survives_encoding(id in "\\PC{1,60}") {
            let encoded = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(get(&format!("/recommend/{encoded}")).1, Ok(Route::Recommend { user_id: id }));
        }
    }
}
