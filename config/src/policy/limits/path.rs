//! Patterns of paths, and paths as they are compared.

use crate::read::{Read, printable};
use std::str::FromStr;

/// What is between two forms of a path; no form has it, since no segment is empty.
const BETWEEN: &str = "//";

/// `/login` (that path alone) or `/api/*` (that path and everything below it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// Folded, without a slash at its end.
    stem: String,
    /// Everything below it too.
    below: bool,
}

impl PathPattern {
    /// Reads a pattern from a settings file.
    pub(in crate::policy) fn parse(text: &str) -> Read<Self> {
        let fail =
            |why: &str, hint: String| Err((format!("\"{}\" {why}", printable(text)), Some(hint)));
        if !text.starts_with('/') {
            return fail("is no path", format!("write \"/{}\"", printable(text)));
        }
        let (stem, below) = match text.strip_suffix("/*") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if stem.contains(['*', '?', '#', '%']) {
            let hint = "write a path as a person reads it, or one and /* for everything below it";
            return fail("has a wildcard inside, or is encoded", hint.to_owned());
        }
        let mut stem = Self::folded(stem.as_bytes());
        // Of a pattern with dots, what it means to a person.
        stem.truncate(stem.find(BETWEEN).unwrap_or(stem.len()));
        Ok(Self { stem, below })
    }

    /// `/`, that path alone.
    pub(in crate::policy) fn root() -> Self {
        Self { stem: String::new(), below: false }
    }

    /// Of two patterns about one path, the one with the greater value is the narrower.
    pub(in crate::policy) fn narrowness(&self) -> (usize, bool) {
        (self.stem.len(), !self.below)
    }

    /// It begins like one of our own endpoints, which never reach the application.
    pub(in crate::policy) fn is_ours(&self) -> bool {
        const OURS: [&str; 7] =
            ["search", "recommend", "similar", "popular", "products", "events", "health"];
        let first = self.stem.split('/').nth(1).unwrap_or_default();
        OURS.contains(&first)
    }

    /// Whether a path, folded, is meant: in any of its forms.
    pub fn matches(&self, folded: &str) -> bool {
        match folded.find(BETWEEN) {
            // The second form begins with a slash of its own.
            Some(end) => self.is_form(&folded[..end]) || self.is_form(&folded[end + 1..]),
            None => self.is_form(folded),
        }
    }

    fn is_form(&self, form: &str) -> bool {
        match form.strip_prefix(self.stem.as_str()) {
            Some("") => true,
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }

    /// A path, folded, that is one path to everybody: no dots in it that one resolves and another does not.
    pub fn is_plain(folded: &str) -> bool {
        !folded.contains(BETWEEN)
    }

    /// A path as it is compared: applications take `/Login`, `/login/`, `//login` and `/%6Cogin` for one page,
    /// so they are one path here. `/x/../login` is `/login` to most, and a page below `/x` to one that does not
    /// resolve dots, so it has two forms, one behind the other with [`BETWEEN`], and a rule about either counts
    /// it. Where an application tells such paths apart, a rule counts more than it had to. (An application
    /// may have other ways to name a page; and the path that is passed on stays as it is.)
    pub fn folded(path: &[u8]) -> String {
        let decoded = String::from_utf8_lossy(&decoded(path)).to_lowercase();
        // `;jsessionid=…`: parameters of a segment are not part of its name.
        let named = |segment: &'_ str| segment.split(';').next().map_or(0, str::len);
        let segments = decoded.split(['/', '\\']).map(|segment| segment[..named(segment)].trim());
        let as_sent: Vec<&str> = segments.filter(|name| !matches!(*name, "" | ".")).collect();
        let mut resolved: Vec<&str> = Vec::with_capacity(as_sent.len());
        for &name in &as_sent {
            if name == ".." {
                resolved.pop();
            } else {
                resolved.push(name);
            }
        }
        let joined = |segments: &[&str]| -> String {
            segments.iter().flat_map(|segment| ["/", segment]).collect()
        };
        if resolved.len() == as_sent.len() {
            return joined(&resolved);
        }
        format!("{}/{}", joined(&resolved), joined(&as_sent))
    }
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|(message, hint)| match hint {
            Some(hint) => format!("{message}; {hint}"),
            None => message,
        })
    }
}

/// A path without `%41` and with one kind of slash.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        let mut digits = rest.clone();
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (byte, hex(digits.next()), hex(digits.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = digits;
            }
            // Some servers take it for a slash.
            (b'\\', ..) => decoded.push(b'/'),
            _ => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_has_one_path() {
        let same = ["/login", "/Login/", "//login", "/%6Cogin", "/./login", "/login;a=b"];
        for path in same {
            assert_eq!(PathPattern::folded(path.as_bytes()), "/login", "{path}");
        }
        for (path, folded) in
            [("/", ""), ("", ""), ("/..", "//.."), ("/%", "/%"), ("/%zz", "/%zz"), ("/%2", "/%2")]
        {
            assert_eq!(PathPattern::folded(path.as_bytes()), folded, "{path}");
        }
        assert_eq!(PathPattern::folded(b"/a%2Fb%5cc\\d"), "/a/b/c/d");
        assert_eq!(PathPattern::folded(b"/a/%2E%2e;x/Login/"), "/login//a/../login");
        assert_eq!(PathPattern::folded(b"/\xff"), "/\u{fffd}");
    }

    #[test]
    fn patterns_match_whole_segments() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let pattern = PathPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(&PathPattern::folded(path.as_bytes())), expected, "{path}");
        };
        check("/login", "/login", true);
        check("/login", "/login/x", false);
        check("/login", "/loginx", false);
        check("/Login/", "/login", true);
        check("/api/*", "/api", true);
        check("/api/*", "/api/v1/x", true);
        check("/api/*", "/apis", false);
        check("/*", "/", true);
        check("/*", "/anything", true);
        check("/", "/", true);
        check("/", "/x", false);
        // As sent or with its dots resolved.
        for (path, login, api) in [
            ("/x/../login", true, false),
            ("/login/../x", false, false),
            ("/x/../api/y", false, true),
            ("/api/../y", false, true),
            ("/api/%2e%2e/login", true, true),
            ("/..;/api", false, true),
            ("/x/../y", false, false),
            ("/../../apis", false, false),
        ] {
            check("/login", path, login);
            check("/x/../login", path, login);
            check("/api/*", path, api);
            check("/*", path, true);
        }
        check("/", "/x/..", true);
        check("/", "/x/../y", false);
        for wrong in ["login", "/a*", "/a/*/b", "/a?b=c", "/%41"] {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
