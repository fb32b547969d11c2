//! An answer as it is remembered: the bytes to send, and what its headers and its record say.

use bytes::Bytes;
use http::HeaderValue;
use penstock_engine::cache::Cached;
use penstock_engine::resilience::Mode;
use penstock_engine::serve::Answer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Body {
    /// A JSON array of products.
    pub bytes: Bytes,
    /// Strong: other bytes have another one.
    pub etag: HeaderValue,
    /// How much of the job was done.
    pub mode: Mode,
    /// Products in it.
    pub results: usize,
    /// The index it was made from.
    pub index_version: String,
    /// The catalogue it was made from.
    pub catalog_revision: u64,
}

impl Body {
    /// Of an answer and the bytes it is sent as.
    pub fn of(answer: &Answer, bytes: Bytes) -> Self {
        Self {
            etag: etag(&bytes),
            bytes,
            mode: answer.mode,
            results: answer.items.len(),
            index_version: answer.trace.index_version.clone(),
            catalog_revision: answer.trace.catalog_revision,
        }
    }
}

impl Cached for Body {
    fn weight(&self) -> usize {
        self.bytes.len() + self.etag.len() + self.index_version.len()
    }
}

/// Of these bytes: 64 bits of their SHA-256.
pub fn etag(bytes: &[u8]) -> HeaderValue {
    let digits = hex::encode(&Sha256::digest(bytes)[..8]);
    HeaderValue::from_str(&format!("\"{digits}\"")).expect("quotes and hexadecimal digits")
}

/// A body as it is written to Redis.
#[derive(Serialize, Deserialize)]
struct Written {
    body: String,
    mode: Mode,
    results: usize,
    index_version: String,
    catalog_revision: u64,
}

impl From<Body> for Written {
    fn from(body: Body) -> Self {
        let Body { bytes, mode, results, index_version, catalog_revision, .. } = body;
        let body = String::from_utf8(bytes.into()).expect("an answer is JSON, which is UTF-8");
        Self { body, mode, results, index_version, catalog_revision }
    }
}

impl TryFrom<Written> for Body {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { body, mode, results, index_version, catalog_revision } = written;
        if !body.starts_with('[') || !body.ends_with(']') {
            return Err("the body is no list");
        }
        let bytes = Bytes::from(body);
        Ok(Self { etag: etag(&bytes), bytes, mode, results, index_version, catalog_revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let answer = Answer { mode: Mode::KeywordOnly, ..Answer::default() };
        let body = Body::of(&answer, Bytes::from_static(b"[{\"product_id\":\"m\xc3\xbcg\"}]"));
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<Body>(&json).unwrap(), body);
        let torn = json.replace("}]", "}");
        assert!(serde_json::from_str::<Body>(&torn).is_err(), "{torn}");
    }

    #[test]
    fn other_bytes_have_another_tag() {
        assert_eq!(etag(b"[]"), etag(b"[]"));
        assert_ne!(etag(b"[]"), etag(b"[1]"));
        assert_eq!(etag(b"[]").len(), 18);
    }
}
