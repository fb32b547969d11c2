//! `Cache-Control` as it stands in a message (RFC 9111, 5.2).
//!
//! Read so that a doubt costs a hit and never a wrong answer: what stands twice counts as the shorter
//! of both, and a number that is none as zero.

use http::{HeaderMap, HeaderName, header};

/// Numbers beyond this are this (RFC 9111, 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// The directives of a message, names in lower case, quotes removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control(Vec<(String, Option<String>)>);

impl Control {
    /// Those of `Cache-Control`.
    pub fn of(headers: &HeaderMap) -> Self {
        Self::named(headers, header::CACHE_CONTROL)
    }

    fn named(headers: &HeaderMap, name: HeaderName) -> Self {
        let mut directives = Vec::new();
        for line in headers.get_all(name) {
            for piece in pieces(&String::from_utf8_lossy(line.as_bytes())) {
                let (name, value) = match piece.split_once('=') {
                    Some((name, value)) => (name, Some(value.trim().trim_matches('"').to_owned())),
                    None => (piece, None),
                };
                let name = name.trim().to_ascii_lowercase();
                if !name.is_empty() {
                    directives.push((name, value));
                }
            }
        }
        Self(directives)
    }

    /// A directive is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// A directive's seconds; `None`: it is not there.
    pub fn seconds(&self, name: &str) -> Option<u64> {
        let values = self.0.iter().filter(|(other, _)| other == name);
        values.map(|(_, value)| value.as_deref().map_or(0, seconds)).min()
    }
}

/// Seconds as a text; what is no number is zero.
pub fn seconds(text: &str) -> u64 {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    // Too many digits are a large number.
    text.parse::<u64>().unwrap_or(MOST_SECONDS).min(MOST_SECONDS)
}

/// The pieces between commas that are not inside quotes.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                pieces.push(&line[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&line[from..]);
    pieces
}

/// What a request wants of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Keep nothing of it.
    pub no_store: bool,
    /// Ask the application first.
    pub no_cache: bool,
    /// Only what is there.
    pub only_if_cached: bool,
    /// No older than this, seconds.
    pub max_age: Option<u64>,
    /// Good for so long still, seconds.
    pub min_fresh: Option<u64>,
}

impl Asked {
    /// What the headers of a request say.
    pub fn of(headers: &HeaderMap) -> Self {
        let control = Control::of(headers);
        // RFC 9111, 5.4: only where there is no Cache-Control.
        let pragma = !headers.contains_key(header::CACHE_CONTROL)
            && Control::named(headers, header::PRAGMA).has("no-cache");
        Self {
            no_store: control.has("no-store"),
            no_cache: control.has("no-cache") || pragma,
            only_if_cached: control.has("only-if-cached"),
            max_age: control.seconds("max-age"),
            min_fresh: control.seconds("min-fresh"),
        }
    }

    /// An answer of this age that is good for so long still is not what was asked for.
    pub fn refuses(&self, age: u64, fresh_for: u64) -> bool {
        self.no_cache
            || self.max_age.is_some_and(|most| age > most)
            || self.min_fresh.is_some_and(|least| fresh_for < least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn directives_as_they_are_written() {
        let check = |lines: &[&str], name: &str, has: bool, seconds: Option<u64>| {
            let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
            let control = Control::of(&headers(&lines));
            assert_eq!((control.has(name), control.seconds(name)), (has, seconds), "{lines:?}");
        };
        check(&[], "max-age", false, None);
        check(&["max-age=60"], "max-age", true, Some(60));
        check(&["Public, MAX-AGE = \"60\" ,x"], "max-age", true, Some(60));
        check(&["public", "max-age=60"], "max-age", true, Some(60));
        check(&["max-age=60, max-age=30"], "max-age", true, Some(30));
        check(&["max-age=60", "max-age=x"], "max-age", true, Some(0));
        check(&["max-age"], "max-age", true, Some(0));
        check(&["max-age=-1"], "max-age", true, Some(0));
        check(&["max-age=+5"], "max-age", true, Some(0));
        check(&["max-age=1.5"], "max-age", true, Some(0));
        check(&["max-age=99999999999999999999"], "max-age", true, Some(MOST_SECONDS));
        check(&["s-maxage=60"], "max-age", false, None);
        // Inside quotes there are no directives.
        check(&["private=\"set-cookie, max-age=5\""], "max-age", false, None);
        check(&["ext=\"a\\\", no-store\""], "no-store", false, None);
        check(&["private=\"set-cookie, max-age=5\""], "private", true, Some(0));
        check(&["ext=\"never closed, no-store"], "no-store", false, None);
        check(&[",,no-store,"], "no-store", true, Some(0));
        check(&["no-store;max-age=5"], "no-store", false, None);
    }

    #[test]
    fn what_a_request_refuses() {
        let check = |lines: &[(&'static str, &str)], age: u64, left: u64, refused: bool| {
            assert_eq!(Asked::of(&headers(lines)).refuses(age, left), refused, "{lines:?}");
        };
        check(&[], 1_000, 0, false);
        check(&[("cache-control", "no-cache")], 0, 10, true);
        check(&[("pragma", "no-cache")], 0, 10, true);
        check(&[("pragma", "no-cache"), ("cache-control", "max-age=10")], 10, 10, false);
        check(&[("cache-control", "max-age=10")], 11, 10, true);
        check(&[("cache-control", "min-fresh=10")], 1, 9, true);
        check(&[("cache-control", "min-fresh=10")], 1, 10, false);
    }
}
