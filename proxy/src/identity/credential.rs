//! The key a request carries: where it is looked for, and that it goes no further than this.
//!
//! `Authorization: Bearer <key>`, `Authorization: ApiKey <key>` or `X-API-Key: <key>`. On our own
//! endpoints whatever is there must be a key of ours. On the way through, the shop's application has
//! tokens of its own, and only what begins like one of our keys is taken for one.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use penstock_config::keys::PREFIX;
use pingora::http::RequestHeader;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Carried<'h> {
    /// No key.
    Nothing,
    /// One text, in one place or several.
    One(&'h [u8]),
    /// Texts that differ: whose request it is cannot be said.
    Several,
}

/// Finds the key in the headers of a request to one of our endpoints (`ours`) or the application's.
pub fn find(headers: &HeaderMap, ours: bool) -> Carried<'_> {
    let mut texts = texts(headers).filter(|text| ours || is_key(text));
    match texts.next() {
        None => Carried::Nothing,
        Some(first) if texts.all(|other| other == first) => Carried::One(first),
        Some(_) => Carried::Several,
    }
}

/// Takes our keys out of a request that goes to the application, and nothing else.
pub fn strip(request: &mut RequestHeader) -> pingora::Result<()> {
    if !texts(&request.headers).any(is_key) {
        return Ok(());
    }
    let readers: [(HeaderName, Reader); 2] = [(header::AUTHORIZATION, token), (X_API_KEY, whole)];
    for (name, read) in readers {
        let lines = request.headers.get_all(&name).iter();
        let kept: Vec<HeaderValue> =
            lines.filter(|line| !read(line.as_bytes()).is_some_and(is_key)).cloned().collect();
        request.remove_header(&name);
        for line in kept {
            request.append_header(name.clone(), line)?;
        }
    }
    Ok(())
}

/// There is a credential of the application's: one that is passed on.
pub fn carries_others(headers: &HeaderMap) -> bool {
    let others = |name: HeaderName, read: Reader| {
        let mut lines = headers.get_all(name).iter();
        lines.any(|line| !read(line.as_bytes()).is_some_and(is_key))
    };
    others(header::AUTHORIZATION, token) || others(X_API_KEY, whole)
}

fn is_key(text: &[u8]) -> bool {
    text.starts_with(PREFIX.as_bytes())
}

/// Reads the text of a key out of a header's line.
type Reader = fn(&[u8]) -> Option<&[u8]>;

fn texts(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let named = |name: HeaderName| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let tokens = named(header::AUTHORIZATION).filter_map(token);
    tokens.chain(named(X_API_KEY).filter_map(whole))
}

/// The token of a scheme of ours; `None`: another scheme, which is nobody's key.
fn token(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (scheme, token) = line.split_at(end);
    let ours = scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"apikey");
    ours.then(|| token.trim_ascii())
}

#[allow(clippy::unnecessary_wraps)] // a Reader
fn whole(line: &[u8]) -> Option<&[u8]> {
    Some(line.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(lines: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/x", None).unwrap();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.append_header(*name, value).unwrap();
        }
        request
    }

    fn shown(carried: Carried<'_>) -> String {
        match carried {
            Carried::Nothing => "-".into(),
            Carried::One(text) => String::from_utf8_lossy(text).into_owned(),
            Carried::Several => "several".into(),
        }
    }

    #[test]
    fn where_a_key_is_looked_for() {
        let check = |lines: &[(&'static str, &str)], ours: &str, through: &str| {
            let request = request(lines);
            let found = [true, false].map(|ours| shown(find(&request.headers, ours)));
            assert_eq!(found, [ours, through], "{lines:?}");
        };
        let auth = "authorization";
        check(&[], "-", "-");
        check(&[(auth, "Bearer psk_a")], "psk_a", "psk_a");
        check(&[("AUTHORIZATION", "bEARER \t psk_a  ")], "psk_a", "psk_a");
        check(&[(auth, "ApiKey psk_a")], "psk_a", "psk_a");
        check(&[(auth, "apikey\tpsk_a")], "psk_a", "psk_a");
        check(&[("X-Api-Key", " psk_a ")], "psk_a", "psk_a");
        check(&[(auth, "Bearer psk_a"), ("x-api-key", "psk_a")], "psk_a", "psk_a");
        // The application's.
        check(&[(auth, "Bearer eyJ")], "eyJ", "-");
        check(&[("x-api-key", "eyJ")], "eyJ", "-");
        check(&[(auth, "Bearer eyJ"), ("x-api-key", "psk_a")], "several", "psk_a");
        check(&[(auth, "Basic cHNrX2E6")], "-", "-");
        check(&[(auth, "Bearerpsk_a")], "-", "-");
        check(&[(auth, "psk_a")], "-", "-");
        check(&[("x_api_key", "psk_a")], "-", "-");
        // Nothing where a key should be is not no key.
        check(&[(auth, "Bearer")], "", "-");
        check(&[("x-api-key", "")], "", "-");
        // Nobody chooses which one counts.
        check(&[(auth, "Bearer psk_a"), (auth, "Bearer psk_b")], "several", "several");
        check(&[(auth, "Bearer psk_a"), ("x-api-key", "psk_b")], "several", "several");
        check(&[(auth, "Bearer psk_a"), (auth, "Bearer psk_a")], "psk_a", "psk_a");
        check(
            &[(auth, "Bearer psk_a, Bearer psk_b")],
            "psk_a, Bearer psk_b",
            "psk_a, Bearer psk_b",
        );
        check(&[(auth, "Bearer psk_\u{e9}")], "psk_\u{e9}", "psk_\u{e9}");
    }

    #[test]
    fn our_keys_end_here_and_nobody_elses() {
        let check = |lines: &[(&'static str, &str)], left: &[(&str, &str)]| {
            let mut request = request(lines);
            strip(&mut request).unwrap();
            let found: Vec<_> = request
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            assert_eq!(found, left, "{lines:?}");
        };
        check(&[("authorization", "Bearer psk_a"), ("cookie", "a=1")], &[("cookie", "a=1")]);
        check(&[("X-API-Key", "psk_a"), ("x-api-key", " psk_a")], &[]);
        let theirs = [("authorization", "Bearer eyJ"), ("x-api-key", "theirs")];
        check(&theirs, &theirs);
        check(&[theirs[0], ("x-api-key", "psk_a")], &theirs[..1]);
        check(&[theirs[0], ("authorization", "apikey psk_a")], &theirs[..1]);
        check(&[("authorization", "Basic eA==")], &[("authorization", "Basic eA==")]);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_passes_a_key_on(value in proptest::collection::vec(0x20_u8..=0xff, 0..40), ours: bool) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut request = request(&[("authorization", "Bearer psk_a")]);
            request.append_header("authorization", value.clone()).unwrap();
            request.append_header("x-api-key", value).unwrap();
            let _ = find(&request.headers, ours);
            strip(&mut request).unwrap();
            prop_assert!(find(&request.headers, false) == Carried::Nothing);
        }
    }
}
