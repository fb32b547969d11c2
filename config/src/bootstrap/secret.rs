//! Text that is never shown.

use crate::disk;
use std::fmt;
use std::io;
use std::path::Path;

/// Longer than any password, shorter than a file named by mistake.
const MAX_PASSWORD_BYTES: usize = 4_096;

/// A password. `Debug` does not show it; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What a file holds now, without line ends behind it; `None`: nothing.
    pub(super) fn in_file(path: &Path) -> io::Result<Option<Self>> {
        let bytes = disk::read_bounded(path, MAX_PASSWORD_BYTES)?;
        if bytes.len() > MAX_PASSWORD_BYTES {
            return Err(io::Error::other("this is too long to be a password"));
        }
        let text =
            String::from_utf8(bytes).map_err(|_| io::Error::other("the password is not UTF-8"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        Ok((!text.is_empty()).then(|| Self::new(text.to_owned())))
    }

    /// The text, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A URL without what is before its last `@`: for messages about URLs that cannot be read, of
/// which nobody knows where the password ends.
pub(super) fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) if !scheme.contains('@') => {
            format!("{scheme}://…@{rest}")
        }
        (_, Some((_, rest))) => format!("…@{rest}"),
        (_, None) => url.to_owned(),
    }
}

/// Undoes percent-encoding; `None` where it is not well-formed or not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
