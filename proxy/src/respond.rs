//! Answers: results, and the one table from everything that can go wrong to a response.
//!
//! Problems are `application/problem+json` (RFC 9457) and ordinary responses: the connection stays
//! open. Pingora's own error path closes it, which turns a flood of refusals into a flood of
//! handshakes.

use crate::admission;
use crate::decision::Decision;
use crate::params::BadParameter;
use crate::route::Refused;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use penstock_engine::serve::EngineError;
use penstock_engine::store::StoreError;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use serde::Serialize;
use std::time::Duration;

/// Whose fault a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request has to change.
    Client,
    /// Penstock, or what it runs on.
    Penstock,
    /// The shop's application.
    Upstream,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $kind:ident $slug:literal $status:literal $fault:ident $title:literal),* $(,)?) => {
        /// Everything that can go wrong. The table: name, end of its `type`, status, fault, title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind),* }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The end of its `type`, stable: `bad-parameter` in `/problems/bad-parameter`.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug),* }
            }
            /// The status it is answered with.
            pub fn status(self) -> u16 {
                match self { $(Self::$kind => $status),* }
            }
            /// Whose fault it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$kind => Fault::$fault),* }
            }
            /// A short name for a person.
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),* }
            }
        }
    };
}

problems! {
    /// A query parameter is missing or cannot be used.
    BadParameter "bad-parameter" 400 Client "A parameter cannot be used",
    /// The path cannot be decoded.
    BadPath "bad-path" 400 Client "The path cannot be read",
    /// The request's headers contradict each other or the protocol.
    BadRequest "bad-request" 400 Client "The request cannot be read",
    /// The body is not JSON.
    BadJson "bad-json" 400 Client "The body is not JSON",
    /// The body did not arrive.
    BadBody "bad-body" 400 Client "The body did not arrive",
    /// The key is wrong, expired, revoked or one of several.
    Unauthorized "unauthorized" 401 Client "The key is not good",
    /// The deny list has the client.
    Denied "denied" 403 Client "Access is denied",
    /// The key is good, but not from this address.
    KeyNotAllowedHere "key-not-allowed-here" 403 Client "The key may not be used from here",
    /// There is no such product.
    UnknownProduct "unknown-product" 404 Client "There is no such product",
    /// No endpoint has this path and there is no application behind.
    NotFound "not-found" 404 Client "There is nothing here",
    /// The endpoint does not take this method.
    MethodNotAllowed "method-not-allowed" 405 Client "The method is not allowed here",
    /// The body took too long.
    SlowBody "slow-body" 408 Client "The body took too long",
    /// The body is larger than the endpoint takes.
    BodyTooLarge "body-too-large" 413 Client "The body is too large",
    /// The body has another type than the endpoint takes.
    UnsupportedMediaType "unsupported-media-type" 415 Client "The body has the wrong type",
    /// Some events break the schema; none was stored.
    InvalidEvents "invalid-events" 400 Client "Some events are not valid; none was stored",
    /// The client asks too often.
    TooManyRequests "too-many-requests" 429 Client "Too many requests",
    /// The headers are larger than the bound.
    HeadersTooLarge "headers-too-large" 431 Client "The headers are too large",
    /// The client wants only what is kept, and nothing is.
    NotKept "not-kept" 504 Penstock "Nothing is kept",
    /// A bug. The handler panicked.
    Internal "internal-error" 500 Penstock "Penstock failed",
    /// No catalogue is loaded.
    NotReady "not-ready" 503 Penstock "The catalogue is not loaded yet",
    /// Too much work waits.
    Overloaded "overloaded" 503 Penstock "Too many requests are waiting",
    /// The store failed where nothing can replace it.
    StoreUnavailable "store-unavailable" 503 Penstock "The store is not available",
    /// As many events wait for the remote store as may, or the disk is full.
    StoreFull "store-full" 503 Penstock "There is no room for more events",
    /// The engine did not come back.
    EngineLate "engine-late" 503 Penstock "The ranking engine took too long",
    /// The application refused, broke or garbled the connection.
    UpstreamFailed "upstream-failed" 502 Upstream "The application behind did not answer",
    /// No server of the application is healthy.
    UpstreamUnavailable "upstream-unavailable" 503 Upstream "No server of the application is healthy",
    /// The application took too long.
    UpstreamTimeout "upstream-timeout" 504 Upstream "The application behind took too long",
}

impl Kind {
    /// It says who may ask or how often, and not what was asked: asking again changes nothing.
    pub fn is_refusal(self) -> bool {
        use Kind::{Denied, KeyNotAllowedHere, TooManyRequests, Unauthorized};
        matches!(self, Unauthorized | Denied | KeyNotAllowedHere | TooManyRequests)
    }
}

/// Something that went wrong, for the client.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The row of the table.
    pub kind: Kind,
    /// A sentence a person can act on.
    pub detail: String,
    /// What broke, for the decision record: names paths and the like, which are nobody else's
    /// business.
    pub cause: Option<Box<str>>,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
    /// The `Allow` header.
    pub allow: Option<&'static str>,
    /// The parameter at fault.
    pub parameter: Option<&'static str>,
    /// What is wrong with each item of a body.
    pub errors: Vec<ItemError>,
}

/// What is wrong with one item of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemError {
    /// Position in the array, 0 first; 0 for a single object.
    pub index: usize,
    /// The field at fault; empty for the item as a whole.
    pub field: &'static str,
    /// What is wrong and what to send instead.
    pub message: String,
}

impl Problem {
    /// A problem with nothing but a sentence.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            cause: None,
            retry_after: None,
            allow: None,
            parameter: None,
            errors: Vec::new(),
        }
    }

    /// The same, with a time after which trying again is worth it.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    fn body(&self, decision: &Decision) -> Bytes {
        #[derive(Serialize)]
        struct Body<'p> {
            r#type: String,
            title: &'static str,
            status: u16,
            detail: &'p str,
            fault: Fault,
            trace_id: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameter: Option<&'static str>,
            #[serde(skip_serializing_if = "<[ItemError]>::is_empty")]
            errors: &'p [ItemError],
        }
        json(&Body {
            r#type: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status(),
            detail: &self.detail,
            fault: self.kind.fault(),
            trace_id: decision.trace.trace_id.to_string(),
            parameter: self.parameter,
            errors: &self.errors,
        })
    }
}

impl From<BadParameter> for Problem {
    fn from(bad: BadParameter) -> Self {
        let parameter = Some(bad.parameter);
        Self { parameter, ..Self::new(Kind::BadParameter, bad.detail) }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Path(_) => Self::new(Kind::BadPath, detail),
            Refused::Method { allow } => {
                Self { allow: Some(allow), ..Self::new(Kind::MethodNotAllowed, detail) }
            }
        }
    }
}

/// Rounded up: who comes back earlier is refused again.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// When a request that found no catalogue or no store is worth repeating.
const RETRY_SOON: Duration = Duration::from_secs(5);
/// When there may be room for events again: what waits is shipped in seconds once that is possible.
const RETRY_WITH_ROOM: Duration = Duration::from_secs(15);

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::BadAsk(_) => Self::new(Kind::BadParameter, text),
            EngineError::UnknownProduct(_) => Self::new(Kind::UnknownProduct, text),
            EngineError::NotReady(_) => Self {
                cause: Some(text.into()),
                ..Self::new(Kind::NotReady, "there is nothing to answer from yet; try again soon")
                    .retry_after(RETRY_SOON)
            },
            EngineError::Overloaded { retry_after } => {
                Self::new(Kind::Overloaded, text).retry_after(retry_after)
            }
            EngineError::Panicked => Self::new(Kind::Internal, text),
            EngineError::Store(StoreError::Full(_)) => Self {
                cause: Some(text.into()),
                ..Self::new(
                    Kind::StoreFull,
                    "none of these events was stored; send them again later",
                )
                .retry_after(RETRY_WITH_ROOM)
            },
            EngineError::Store(_) => Self {
                cause: Some(text.into()),
                ..Self::new(Kind::StoreUnavailable, "the store failed; try again soon")
                    .retry_after(RETRY_SOON)
            },
        }
    }
}

/// A response of our own.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    content_type: &'static str,
    cache_control: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// Answers depend on who asks and change with every event: a browser may keep one, but must ask
/// before it uses it again.
const PRIVATE: &str = "private, no-cache";
/// With what a key may be sent.
const CHALLENGE: &str = "Bearer realm=\"penstock\"";
/// What went wrong a moment ago says nothing about now.
const NO_STORE: &str = "no-store";

impl Reply {
    /// A JSON document.
    pub fn json(status: u16, content: &impl Serialize) -> Self {
        Self {
            status,
            content_type: "application/json",
            cache_control: PRIVATE,
            headers: Vec::new(),
            body: json(content),
        }
    }

    /// A JSON document that no cache may keep.
    pub fn fleeting(status: u16, content: &impl Serialize) -> Self {
        Self { cache_control: NO_STORE, ..Self::json(status, content) }
    }

    /// A JSON document that is there as bytes, with its entity tag.
    pub fn remembered(body: Bytes, etag: HeaderValue) -> Self {
        Self {
            status: 200,
            content_type: "application/json",
            cache_control: PRIVATE,
            headers: vec![(header::ETAG, etag)],
            body,
        }
    }

    /// The client has it already.
    pub fn not_modified(etag: HeaderValue) -> Self {
        Self { status: 304, body: Bytes::new(), ..Self::remembered(Bytes::new(), etag) }
    }

    /// The answer to `OPTIONS`.
    pub fn options(allow: &'static str) -> Self {
        Self {
            status: 204,
            content_type: "",
            cache_control: "",
            headers: vec![(header::ALLOW, HeaderValue::from_static(allow))],
            body: Bytes::new(),
        }
    }

    /// The answer to a problem; noted in the decision.
    pub fn problem(problem: &Problem, decision: &mut Decision) -> Self {
        decision.problem = Some(problem.kind.slug());
        if let Some(cause) = &problem.cause {
            decision.error = Some(cause.to_string());
        }
        let mut headers = Vec::new();
        if let Some(after) = problem.retry_after {
            headers.push((header::RETRY_AFTER, HeaderValue::from(whole_seconds(after).max(1))));
        }
        if let Some(allow) = problem.allow {
            headers.push((header::ALLOW, HeaderValue::from_static(allow)));
        }
        if problem.kind == Kind::Unauthorized {
            // RFC 9110, 11.6.1: a 401 says how.
            headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE)));
        }
        Self {
            status: problem.kind.status(),
            content_type: "application/problem+json",
            cache_control: NO_STORE,
            headers,
            body: problem.body(decision),
        }
    }

    fn header(&self, decision: &Decision) -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build(self.status, Some(10 + self.headers.len()))?;
        // RFC 9110, 8.6 and 15.4.5: neither has a body, and 304 says of one only what validates it.
        if self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED {
            head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
            head.insert_header(header::CONTENT_TYPE, self.content_type)?;
            head.insert_header("X-Content-Type-Options", "nosniff")?;
        }
        if !self.cache_control.is_empty() {
            head.insert_header(header::CACHE_CONTROL, self.cache_control)?;
        }
        for (name, value) in &self.headers {
            head.insert_header(name.clone(), value.clone())?;
        }
        decision_headers(decision, &mut head)?;
        Ok(head)
    }
}

/// The decision as response headers: what every answer of ours carries.
fn decision_headers(decision: &Decision, head: &mut ResponseHeader) -> pingora::Result<()> {
    head.insert_header("X-Trace-ID", decision.trace.trace_id.to_string())?;
    head.insert_header("X-Policy-Version", decision.policy_version.as_str())?;
    head.insert_header("X-Cache", decision.cache.outcome.name())?;
    if let Some(mode) = decision.mode {
        head.insert_header("X-Penstock-Mode", mode.name())?;
    }
    limit_headers(decision, head)
}

/// What is left of the client's limit: on every response, refusals and the application's own, too.
pub fn limit_headers(decision: &Decision, head: &mut ResponseHeader) -> pingora::Result<()> {
    for (name, value) in admission::headers(&decision.verdicts) {
        head.insert_header(name, value)?;
    }
    Ok(())
}

/// A client may take this long to read an answer of ours. Pingora bounds the body's pieces only: to
/// write the header and to flush, it waits for ever.
const READER_PATIENCE: Duration = Duration::from_secs(30);

/// Sends a reply; for HEAD, everything but the body.
pub async fn write(
    session: &mut Session,
    reply: Reply,
    decision: &mut Decision,
) -> pingora::Result<()> {
    in_time(READER_PATIENCE, send(session, reply, decision)).await
}

async fn in_time(
    patience: Duration,
    sending: impl Future<Output = pingora::Result<()>>,
) -> pingora::Result<()> {
    let late =
        |_| Err(Error::explain(ErrorType::WriteTimedout, "the answer is not read").into_down());
    tokio::time::timeout(patience, sending).await.unwrap_or_else(late)
}

async fn send(session: &mut Session, reply: Reply, decision: &mut Decision) -> pingora::Result<()> {
    decision.status = reply.status;
    let bodyless = session.req_header().method == http::Method::HEAD
        || reply.status == StatusCode::NO_CONTENT
        || reply.status == StatusCode::NOT_MODIFIED
        || reply.body.is_empty();
    let head = reply.header(decision)?;
    session.write_response_header(Box::new(head), bodyless).await?;
    let body = if bodyless { None } else { Some(reply.body) };
    session.write_response_body(body, true).await
}

/// Serialises what is known to serialise.
pub(crate) fn json(content: &impl Serialize) -> Bytes {
    serde_json::to_vec(content)
        .expect("our own types have string keys and no failing fields")
        .into()
}

#[cfg(test)]
mod tests;
