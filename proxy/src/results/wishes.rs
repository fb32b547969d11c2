//! What a request says about caches: `If-None-Match`, `Cache-Control`, `Pragma` (RFC 9110, 13.1.2; RFC 9111, 5.2.1).

use http::{HeaderMap, HeaderValue, header};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Entity tags the client has; `*` is one of them.
    tags: Vec<String>,
    /// Nothing that was made before this request.
    pub anew: bool,
    /// Nothing of this request is to be kept.
    pub unkept: bool,
}

/// Tags of one request that are looked at; nobody has more versions of an answer.
const MOST_TAGS: usize = 32;

impl Wishes {
    /// Of a request's headers. What cannot be read wishes nothing.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut wishes = Self::default();
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        for line in headers.get_all(header::IF_NONE_MATCH) {
            wishes.tags.extend(tags(&text(line)));
        }
        wishes.tags.truncate(MOST_TAGS);
        for line in headers.get_all(header::CACHE_CONTROL) {
            for directive in text(line).split(',') {
                let directive = directive.trim().to_ascii_lowercase();
                match directive.split_once('=').map(|(name, value)| (name, value.trim_matches('"')))
                {
                    Some(("max-age", "0")) => wishes.anew = true,
                    None if directive == "no-cache" => wishes.anew = true,
                    None if directive == "no-store" => (wishes.anew, wishes.unkept) = (true, true),
                    _ => {}
                }
            }
        }
        let pragma = headers.get(header::PRAGMA).map(&text).unwrap_or_default();
        if !headers.contains_key(header::CACHE_CONTROL) && pragma.eq_ignore_ascii_case("no-cache") {
            wishes.anew = true;
        }
        wishes
    }

    /// The client has the answer with this tag. Weak comparison, as RFC 9110 asks for here.
    pub fn has(&self, etag: &HeaderValue) -> bool {
        let tag = etag.to_str().unwrap_or_default();
        self.tags.iter().any(|known| known == "*" || known == tag)
    }
}

/// The tags of a list, without the mark of weak ones. A tag may hold commas.
fn tags(list: &str) -> Vec<String> {
    if list.trim() == "*" {
        return vec!["*".to_owned()];
    }
    let mut tags = Vec::new();
    let mut rest = list;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((tag, after)) = after.split_once('"') else {
            break;
        };
        tags.push(format!("\"{tag}\""));
        rest = after;
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(lines: &[(&'static str, &'static str)]) -> Wishes {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Wishes::read(&headers)
    }

    #[test]
    fn tags_are_compared_weakly() {
        let etag = HeaderValue::from_static("\"ab\"");
        let check = |lines: &[(&'static str, &'static str)], expected: bool| {
            assert_eq!(wishes(lines).has(&etag), expected, "{lines:?}");
        };
        check(&[], false);
        check(&[("if-none-match", "\"ab\"")], true);
        check(&[("if-none-match", "W/\"ab\"")], true);
        check(&[("if-none-match", "\"x,y\", \"ab\"")], true);
        check(&[("if-none-match", "\"x\""), ("if-none-match", "\"ab\"")], true);
        check(&[("if-none-match", "*")], true);
        check(&[("if-none-match", "ab")], false);
        check(&[("if-none-match", "\"ab")], false);
        check(&[("if-none-match", "\"abc\"")], false);
    }

    #[test]
    fn who_wishes_it_gets_it_anew() {
        let check = |lines: &[(&'static str, &'static str)], anew: bool, unkept: bool| {
            let wishes = wishes(lines);
            assert_eq!((wishes.anew, wishes.unkept), (anew, unkept), "{lines:?}");
        };
        check(&[], false, false);
        check(&[("cache-control", "no-cache")], true, false);
        check(&[("cache-control", "Max-Age=0, no-transform")], true, false);
        check(&[("cache-control", "max-age=60")], false, false);
        check(&[("cache-control", "no-store")], true, true);
        check(&[("pragma", "no-cache")], true, false);
        check(&[("pragma", "no-cache"), ("cache-control", "max-age=60")], false, false);
        check(&[("cache-control", "no-cacheable")], false, false);
    }
}
