//! Keys: what is asked for, and the versions it is made with.

use super::CacheKind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;

/// Everything but these is percent-encoded in a part of a key: a part never holds what separates parts (`:`),
/// what a pattern means (`*`, `?`), or what a cluster places keys by (`{`).
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@').remove(b'+');

/// How a part that is empty is written: an id never is, so nobody has this name.
const NOBODY: &str = "-";

/// Bytes of a digest that are kept: 128 bits, beyond chance and beyond reach.
const DIGEST_BYTES: usize = 16;

/// What a value was made with, as the beginning of its key. Another version is another key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions(String);

impl Versions {
    /// Versions in a fixed order, each behind a letter that says of what; empty ones are left out.
    pub fn of<'v>(parts: impl IntoIterator<Item = (char, &'v str)>) -> Self {
        let mut text = String::new();
        for (letter, version) in parts.into_iter().filter(|(_, version)| !version.is_empty()) {
            let _ = write!(text, "{letter}{}.", utf8_percent_encode(version, PLAIN));
        }
        text.pop();
        Self(text)
    }

    /// As in keys: `s1f2e.i2026-11-24T05-00-00`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of one value in one layer.
///
/// Its name has the shape operators know it by, `search:{query_hash}:{user_id}:{k}`; patterns are about names.
/// In Redis it is behind the layer and the versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    kind: CacheKind,
    /// Versions, a slash, the name.
    text: Arc<str>,
    /// Where the name begins.
    name_at: usize,
}

impl Key {
    /// Of `parts`, encoded and joined by colons, under `versions`. An empty part is `-`, and no other is.
    pub fn new<'p>(
        kind: CacheKind,
        versions: &Versions,
        parts: impl IntoIterator<Item = &'p str>,
    ) -> Self {
        let mut text = String::with_capacity(versions.0.len() + 64);
        text.push_str(&versions.0);
        text.push('/');
        let name_at = text.len();
        for part in parts {
            if text.len() > name_at {
                text.push(':');
            }
            match part {
                // Nobody in particular; and somebody who is called so.
                "" => text.push_str(NOBODY),
                NOBODY => text.push_str("%2D"),
                _ => text.extend(utf8_percent_encode(part, PLAIN)),
            }
        }
        Self { kind, text: text.into(), name_at }
    }

    /// The layer.
    pub fn kind(&self) -> CacheKind {
        self.kind
    }

    /// Without versions: `search:9f86d081…:-:10`.
    pub fn name(&self) -> &str {
        &self.text[self.name_at..]
    }

    /// With versions; one text per value of a layer.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// In Redis, without the namespace. In braces, so that what belongs to a key lies beside it on a cluster.
    pub fn in_redis(&self) -> String {
        format!("cache:{}:{{{}}}", self.kind.name(), self.text)
    }
}

/// A digest of texts, each with its length: `["ab", "c"]` and `["a", "bc"]` differ. 32 hexadecimal digits.
pub fn digest<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hex::encode(&hash.finalize()[..DIGEST_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_shape_operators_know() {
        let versions = Versions::of([('s', "1f2e"), ('p', ""), ('i', "v1:a")]);
        assert_eq!(versions.as_str(), "s1f2e.iv1%3Aa");
        let key = Key::new(CacheKind::Results, &versions, ["search", "9f86", "", "10"]);
        assert_eq!(key.name(), "search:9f86:-:10");
        assert_eq!(&**key.text(), "s1f2e.iv1%3Aa/search:9f86:-:10");
        assert_eq!(key.in_redis(), "cache:results:{s1f2e.iv1%3Aa/search:9f86:-:10}");
    }

    #[test]
    fn nothing_a_client_writes_reaches_into_another_key() {
        let name = |user: &str| {
            let key =
                Key::new(CacheKind::Results, &Versions::default(), ["recommend", user, "", "10"]);
            key.name().to_owned()
        };
        assert_eq!(name("a:b"), "recommend:a%3Ab:-:10");
        assert_eq!(name("*"), "recommend:%2A:-:10");
        assert_eq!((name(""), name("-")), ("recommend:-:-:10".into(), "recommend:%2D:-:10".into()));
        assert_eq!(name("%2D"), "recommend:%252D:-:10");
        assert_eq!(name("a}{b/\n"), "recommend:a%7D%7Bb%2F%0A:-:10");
        assert_eq!(name("ann@shop.example"), "recommend:ann@shop.example:-:10");
        assert_ne!(name("%3A"), name(":"));
    }

    #[test]
    fn digests_tell_where_a_text_ends() {
        assert_eq!(digest(["a"]).len(), 32);
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_ne!(digest(["a"]), digest(["a", ""]));
    }
}
