//! The decision record: everything that was decided about one request.
//!
//! Made when the first line of the request is known, filled in by each stage, and read at the end
//! by whoever tells the outside: response headers, access log, metrics, span, `explain`, the ring
//! behind `GET /decisions/{trace_id}`. Nobody else keeps notes.

mod ring;

pub use ring::Ring;

use crate::admission::Verdict;
use crate::admission::abuse::Penalty;
use crate::admission::lists::Listed;
use crate::identity::Client;
use crate::route::Endpoint;
use crate::telemetry::traceparent::Trace;
use penstock_engine::resilience::Mode;
use penstock_engine::serve::{Answer, RetrieverReport};
use serde::{Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Longest text of the client's that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 2_048;

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheOutcome {
    /// Out of this process' memory.
    HitL1,
    /// Nothing that could be served was there.
    Miss,
    /// Out of date, but better than to wait or than nothing.
    Stale,
    /// No cache was asked, or its answer was not for this request.
    Bypass,
}

impl CacheOutcome {
    /// As in `X-Cache`.
    pub fn name(self) -> &'static str {
        match self {
            Self::HitL1 => "hit-l1",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
        }
    }
}

/// What the result cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Where the answer came from.
    pub outcome: CacheOutcome,
    /// Why.
    pub why: &'static str,
}

/// A stage and how long it took. The engine's stages carry `engine_` before their name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// `identity`, `route`, `engine`, `respond`, `upstream_connect`, …
    pub name: &'static str,
    /// Microseconds.
    pub micros: u64,
}

/// The stage in which a refusal waits because its client asks on and on. The time is nobody's work.
pub const PAUSE: &str = "pause";

/// What pass-through did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamUse {
    /// The server that was asked last.
    pub server: String,
    /// Its address.
    pub address: SocketAddr,
    /// How often some server was asked, 1 without a retry.
    pub attempts: usize,
    /// The last attempt used a kept connection.
    pub reused: bool,
    /// From being asked to the response's header, microseconds; absent when none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_micros: Option<u64>,
    /// Every attempt that failed, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// Everything that was decided about one request.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// When it began.
    #[serde(rename = "time", serialize_with = "rfc3339")]
    pub began_unix_micros: i64,
    /// Its trace, 32 hexadecimal digits, its span and the caller's.
    #[serde(flatten, serialize_with = "flat_trace")]
    pub trace: Trace,
    /// Who asked.
    pub client: Client,
    /// As sent, cut to a sane length.
    pub method: String,
    /// Path and query as sent, cut to a sane length, what is not UTF-8 replaced. What is not for one
    /// of our endpoints has its values masked.
    pub target: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// `HTTP/1.1`, `HTTP/2.0`, …
    pub protocol: &'static str,
    /// Where it went.
    pub route: Endpoint,
    /// The entry of the allow or deny list that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
    /// What admission said, rule by rule.
    pub verdicts: Vec<Verdict>,
    /// The penalty for abuse that is about it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<Penalty>,
    /// What the result cache did.
    pub cache: Cache,
    /// In the order they ran.
    pub stages: Vec<Stage>,
    /// The policy it ran under.
    pub policy_version: String,
    /// The index that answered; empty when none did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub index_version: String,
    /// The catalogue that answered.
    #[serde(skip_serializing_if = "is_zero")]
    pub catalog_revision: u64,
    /// How much of the job was done; absent where no engine was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Why the mode is not `full`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// What became of each retriever.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retrievers: Vec<RetrieverReport>,
    /// Results in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<usize>,
    /// What pass-through did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamUse>,
    /// The kind of problem that was answered, as at the end of its `type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
    /// What broke, for whoever operates this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Status of the response; 0 when the client was gone before one could be sent.
    pub status: u16,
    /// Bytes of the request's body that were read.
    pub bytes_received: usize,
    /// Bytes of the response's body that were sent.
    pub bytes_sent: usize,
    /// From the request's header read to the response sent, microseconds.
    pub duration_micros: u64,
}

impl Decision {
    /// A request of which nothing is known yet but its trace and its policy.
    pub fn begin(trace: Trace, unix_micros: i64, policy_version: String) -> Self {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            began_unix_micros: unix_micros,
            trace,
            client: Client::at(nobody),
            method: String::new(),
            target: String::new(),
            host: String::new(),
            protocol: "",
            route: Endpoint::Upstream,
            listed: None,
            verdicts: Vec::new(),
            penalty: None,
            cache: Cache { outcome: CacheOutcome::Bypass, why: "no result cache" },
            stages: Vec::new(),
            policy_version,
            index_version: String::new(),
            catalog_revision: 0,
            mode: None,
            degraded: Vec::new(),
            retrievers: Vec::new(),
            results: None,
            upstream: None,
            problem: None,
            error: None,
            status: 0,
            bytes_received: 0,
            bytes_sent: 0,
            duration_micros: 0,
        }
    }

    /// The record, out of a context that is about to end.
    pub fn take(&mut self) -> Self {
        let empty = Self::begin(self.trace, self.began_unix_micros, String::new());
        std::mem::replace(self, empty)
    }

    /// Notes how long a stage took.
    pub fn stage(&mut self, name: &'static str, took: Duration) {
        self.stages.push(Stage { name, micros: micros(took) });
    }

    /// Takes over what the engine decided.
    pub fn answered(&mut self, answer: &Answer) {
        self.mode = Some(answer.mode);
        self.results = Some(answer.items.len());
        self.index_version.clone_from(&answer.trace.index_version);
        self.catalog_revision = answer.trace.catalog_revision;
        self.degraded.clone_from(&answer.trace.degraded);
        self.retrievers.clone_from(&answer.trace.retrievers);
        for stage in &answer.trace.stages {
            self.stages.push(Stage { name: engine_stage(stage.name), micros: stage.micros });
        }
    }
}

/// The engine's stages under the names they have among all stages.
fn engine_stage(name: &'static str) -> &'static str {
    match name {
        "understand" => "engine_understand",
        "history" => "engine_history",
        "retrieve" => "engine_retrieve",
        "features" => "engine_features",
        "rank" => "engine_rank",
        "fields" => "engine_fields",
        other => other,
    }
}

/// Microseconds, for records.
pub fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// The client's bytes as text that is safe to keep: bounded, what is not UTF-8 replaced.
pub fn bounded_text(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// A text that is kept, without the API keys somebody wrote where they do not belong.
pub fn without_keys(text: &str) -> String {
    let mut parts = text.split(penstock_config::keys::PREFIX);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let secret = |c: char| c.is_ascii_alphanumeric() || c == '_';
        kept.push_str(penstock_config::keys::PREFIX);
        kept.push('*');
        kept.push_str(part.trim_start_matches(secret));
    }
    kept
}

/// A request target of the application as text: its path and the names of its parameters. Their
/// values may be tokens, and are as secret as a cookie.
pub fn masked_target(target: &[u8]) -> String {
    let Some(at) = target.iter().position(|&byte| byte == b'?') else {
        return bounded_text(target);
    };
    let mut masked = target[..at].to_vec();
    let parameters = target[at + 1..].split(|&byte| byte == b'&' || byte == b';');
    for (number, parameter) in parameters.enumerate() {
        masked.push(if number == 0 { b'?' } else { b'&' });
        let name = parameter.split(|&byte| byte == b'=').next().unwrap_or_default();
        masked.extend_from_slice(name);
        if name.len() < parameter.len() {
            masked.extend_from_slice(b"=*");
        }
    }
    bounded_text(&masked)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn rfc3339<S: Serializer>(unix_micros: &i64, to: S) -> Result<S::Ok, S::Error> {
    use time::format_description::well_known::Rfc3339;
    let formatted =
        time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(*unix_micros) * 1_000)
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok());
    match formatted {
        Some(text) => to.serialize_str(&text),
        None => to.serialize_i64(*unix_micros),
    }
}

fn flat_trace<S: Serializer>(trace: &Trace, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = to.serialize_map(None)?;
    map.serialize_entry("trace_id", &trace.trace_id)?;
    map.serialize_entry("span_id", &trace.span_id)?;
    if let Some(parent) = trace.parent {
        map.serialize_entry("parent_span_id", &parent)?;
    }
    map.serialize_entry("sampled", &trace.sampled)?;
    map.end()
}

#[cfg(test)]
pub(crate) mod tests;
