//! Patterns of paths, and paths as they are compared.

use crate::read::{Read, printable};

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
    pub(super) fn parse(text: &str) -> Read<Self> {
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
        Ok(Self { stem: Self::folded(stem.as_bytes()), below })
    }

    /// It begins like one of our own endpoints, which never reach the application.
    pub(super) fn is_ours(&self) -> bool {
        const OURS: [&str; 7] =
            ["search", "recommend", "similar", "popular", "products", "events", "health"];
        let first = self.stem.split('/').nth(1).unwrap_or_default();
        OURS.contains(&first)
    }

    /// Whether a path, folded, is meant.
    pub fn matches(&self, folded: &str) -> bool {
        match folded.strip_prefix(self.stem.as_str()) {
            Some("") => true,
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }

    /// A path as it is compared: applications take `/Login`, `/login/`, `//login`, `/x/../login` and
    /// `/%6Cogin` for one page, so they are one path here. Where an application tells them apart, a
    /// rule counts more than it had to, never less. (The path that is passed on stays as it is.)
    pub fn folded(path: &[u8]) -> String {
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
        let decoded = String::from_utf8_lossy(&decoded).to_lowercase();
        let mut segments: Vec<&str> = Vec::new();
        for segment in decoded.split(['/', '\\']) {
            // `;jsessionid=…`: parameters of a segment are not part of its name.
            match segment.split(';').next().unwrap_or_default().trim() {
                "" | "." => {}
                ".." => drop(segments.pop()),
                name => segments.push(name),
            }
        }
        segments.iter().flat_map(|segment| ["/", segment]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_has_one_path() {
        let same =
            ["/login", "/Login/", "//login", "/a/../login", "/%6Cogin", "/./login", "/login;a=b"];
        for path in same {
            assert_eq!(PathPattern::folded(path.as_bytes()), "/login", "{path}");
        }
        for (path, folded) in
            [("/", ""), ("", ""), ("/..", ""), ("/%", "/%"), ("/%zz", "/%zz"), ("/%2", "/%2")]
        {
            assert_eq!(PathPattern::folded(path.as_bytes()), folded, "{path}");
        }
        assert_eq!(PathPattern::folded(b"/a%2Fb%5cc\\d"), "/a/b/c/d");
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
        for wrong in ["login", "/a*", "/a/*/b", "/a?b=c", "/%41"] {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
