//! An answer, read whole.

use crate::items::Item;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use serde_json::Value;

/// Status, headers and body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// HTTP version of the answer.
    pub version: Version,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// Reads a response to its end.
    pub async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        Ok(Self {
            status: response.status().as_u16(),
            version: response.version(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        })
    }

    /// Fails the test unless the status is `status`.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.describe());
        self
    }

    /// A header that must be there once.
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no {name}: {}", self.describe()));
        assert!(values.next().is_none(), "{name} twice: {}", self.describe());
        value.to_str().expect("headers of answers are ASCII")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|_| panic!("no text: {}", self.describe()))
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.describe()))
    }

    /// The body as a 200 with ranked products.
    pub fn items(self) -> Vec<Item> {
        let reply = self.expect(200);
        assert!(
            reply.header("content-type").starts_with("application/json"),
            "{}",
            reply.describe()
        );
        serde_json::from_slice(&reply.body)
            .unwrap_or_else(|error| panic!("{error}: {}", reply.describe()))
    }

    /// The body as a problem: RFC 9457, with a type, a sentence and the trace id.
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.describe());
        let problem = self.json();
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        assert!(!text("type").is_empty(), "no type: {problem}");
        assert!(!text("title").is_empty(), "no title: {problem}");
        assert!(text("detail").contains(' '), "no sentence: {problem}");
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(text("trace_id"), self.header("x-trace-id"), "{problem}");
        problem
    }

    /// For messages: status, headers and the start of the body.
    pub fn describe(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let start: String = body.chars().take(600).collect();
        format!("{} {:?} {start}", self.status, self.headers)
    }

    /// Whether the status is of the 2xx class.
    pub fn is_success(&self) -> bool {
        StatusCode::from_u16(self.status).is_ok_and(|status| status.is_success())
    }
}
