//! W3C Trace Context: reading, continuing and writing `traceparent`
//! (<https://www.w3.org/TR/trace-context/>, level 1).
//!
//! A header that breaks a rule is dropped and a new trace begins: a client's mistake must not
//! cost it the answer, and half an id must not end in the logs.

use http::HeaderMap;
use std::fmt;

/// 128 bits, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// 64 bits, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// From 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        hex_bytes(text.as_bytes()).map(Self)
    }

    /// As the engine has it.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    fn random() -> Self {
        loop {
            let bytes: [u8; 16] = rand::random();
            if bytes != [0; 16] {
                return Self(bytes);
            }
        }
    }

    /// The low 56 bits as a fraction of their range, in [0, 1): what ratio sampling compares.
    pub fn fraction(self) -> f64 {
        let mut low = [0; 8];
        low[1..].copy_from_slice(&self.0[9..]);
        u64::from_be_bytes(low) as f64 / (1_u64 << 56) as f64
    }
}

impl SpanId {
    fn random() -> Self {
        loop {
            let bytes: [u8; 8] = rand::random();
            if bytes != [0; 8] {
                return Self(bytes);
            }
        }
    }
}

/// Lower-case hexadecimal digits of exactly `N` bytes that are not all zero.
fn hex_bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    (bytes != [0; N]).then_some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

macro_rules! hexadecimal {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}
hexadecimal!(TraceId, SpanId);

/// Where a request stands in its trace. `span_id` is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Of the whole trace; also the `X-Trace-ID` of the response.
    pub trace_id: TraceId,
    /// Of the span this proxy adds.
    pub span_id: SpanId,
    /// The caller's span, when it sent one.
    pub parent: Option<SpanId>,
    /// Whether spans are recorded.
    pub sampled: bool,
}

impl Trace {
    /// Continues the caller's trace, or begins one, sampled at `ratio` (0 to 1). Whether a trace is
    /// sampled is for those to say whom we trust: a flag in every request of a flood would cost as
    /// much as the flood.
    pub fn from_headers(headers: &HeaderMap, ratio: f64, trusted: bool) -> Self {
        let mut lines = headers.get_all("traceparent").iter();
        let caller = match (lines.next(), lines.next()) {
            (Some(only), None) => parse(only.as_bytes()),
            // Two headers are two different parents; neither can be believed.
            _ => None,
        };
        match caller {
            Some((trace_id, parent, flag)) => {
                let sampled = if trusted { flag } else { trace_id.fraction() < ratio };
                Self { trace_id, span_id: SpanId::random(), parent: Some(parent), sampled }
            }
            None => Self::begin(ratio),
        }
    }

    /// A new trace.
    pub fn begin(ratio: f64) -> Self {
        let trace_id = TraceId::random();
        Self {
            trace_id,
            span_id: SpanId::random(),
            parent: None,
            sampled: trace_id.fraction() < ratio,
        }
    }

    /// The header for whoever we call: our span is their parent.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// `version-traceid-parentid-flags`; a higher version may carry more after another dash.
fn parse(value: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    let fixed = value.get(..55)?;
    let (version, rest) = fixed.split_at(2);
    let version = nibble(version[0])? << 4 | nibble(version[1])?;
    let longer_is_fine = version > 0 && value.get(55) == Some(&b'-');
    if version == 0xff || (value.len() != 55 && !longer_is_fine) {
        return None;
    }
    if rest[0] != b'-' || rest[33] != b'-' || rest[50] != b'-' {
        return None;
    }
    let trace_id = TraceId(hex_bytes(&rest[1..33])?);
    let parent = SpanId(hex_bytes(&rest[34..50])?);
    let flags = nibble(rest[51])? << 4 | nibble(rest[52])?;
    Some((trace_id, parent, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn continues_a_good_parent_and_drops_a_bad_one() {
        let check = |values: &[&str], continued: Option<bool>| {
            let trace = Trace::from_headers(&headers(values), 0.0, true);
            let seen = trace.parent.map(|parent| {
                assert_eq!(trace.trace_id.to_string(), TRACE);
                assert_eq!(parent.to_string(), PARENT);
                trace.sampled
            });
            assert_eq!(seen, continued, "{values:?}");
        };
        let good = format!("00-{TRACE}-{PARENT}-01");
        check(&[&good], Some(true));
        check(&[&format!("00-{TRACE}-{PARENT}-00")], Some(false));
        check(&[&format!("00-{TRACE}-{PARENT}-03")], Some(true));
        check(&[&format!("cc-{TRACE}-{PARENT}-01-what-comes-later")], Some(true));
        check(&[&format!("cc-{TRACE}-{PARENT}-01")], Some(true));
        check(&[], None);
        check(&[""], None);
        check(&[&good, &good], None);
        check(&[&format!("ff-{TRACE}-{PARENT}-01")], None);
        check(&[&format!("00-{TRACE}-{PARENT}-01-more")], None);
        check(&[&format!("cc-{TRACE}-{PARENT}-01.more")], None);
        check(&[&format!("00-{}-{PARENT}-01", TRACE.to_uppercase())], None);
        check(&[&format!("00-{}-{PARENT}-01", "0".repeat(32))], None);
        check(&[&format!("00-{TRACE}-{}-01", "0".repeat(16))], None);
        check(&[&format!("00-{TRACE}-{PARENT}-0g")], None);
        check(&[&format!("00_{TRACE}-{PARENT}-01")], None);
        check(&[&good[..54]], None);
    }

    #[test]
    fn only_a_trusted_caller_decides_what_is_sampled() {
        let check = |flag: &str, ratio: f64, trusted: bool, expected: bool| {
            let parent = format!("00-{TRACE}-{PARENT}-{flag}");
            let trace = Trace::from_headers(&headers(&[&parent]), ratio, trusted);
            assert_eq!(trace.parent.unwrap().to_string(), PARENT);
            assert_eq!(trace.sampled, expected, "{flag} {ratio} {trusted}");
        };
        check("01", 0.0, true, true);
        check("00", 1.0, true, false);
        check("01", 0.0, false, false);
        check("00", 1.0, false, true);
        // The id's own fraction is 0.807: every proxy on the way decides the same.
        check("01", 0.80, false, false);
        check("00", 0.81, false, true);
    }

    #[test]
    fn our_span_is_the_next_parent() {
        let trace = Trace::from_headers(&headers(&[&format!("00-{TRACE}-{PARENT}-01")]), 0.0, true);
        assert_ne!(trace.span_id.to_string(), PARENT);
        assert_eq!(trace.traceparent(), format!("00-{TRACE}-{}-01", trace.span_id));
    }

    #[test]
    fn ratio_decides_for_new_traces() {
        for _ in 0..100 {
            assert!(!Trace::begin(0.0).sampled);
            assert!(Trace::begin(1.0).sampled);
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_lets_half_an_id_through(value in "[ -~]{0,80}") {
            let trace = Trace::from_headers(&headers(&[&value]), 1.0, true);
            prop_assert_eq!(trace.trace_id.to_string().len(), 32);
            prop_assert_ne!(trace.trace_id.to_string(), "0".repeat(32));
            let again = Trace::from_headers(&headers(&[&trace.traceparent()]), 0.0, true);
            prop_assert_eq!(again.trace_id, trace.trace_id);
            prop_assert_eq!(again.parent, Some(trace.span_id));
        }
    }
}
