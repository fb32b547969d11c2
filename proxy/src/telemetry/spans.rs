//! Spans of sampled requests to a collector, as OTLP over HTTP with JSON bodies
//! (<https://opentelemetry.io/docs/specs/otlp/>), set up by the variables OpenTelemetry defines:
//! `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`), `OTEL_SERVICE_NAME`,
//! `OTEL_TRACES_SAMPLER_ARG` (the share of new traces that is sampled).
//!
//! One span per request, its stages as attributes, made from the decision record. A thread of its
//! own sends; a collector that is slow or gone costs spans, which are counted, and nothing else.
//! Only `http://` endpoints: a collector beside the process takes TLS from there.

use crate::decision::Decision;
use anyhow::{Context as _, bail};
use penstock_config::clock;
use prometheus::IntCounter;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Spans waiting to be sent.
const QUEUE: usize = 4_096;
/// Most spans in one request to the collector.
const BATCH: usize = 512;
/// A batch waits this long for more.
const GATHER: Duration = Duration::from_secs(1);
/// For connecting, for writing, for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The share of new traces that is sampled: `OTEL_TRACES_SAMPLER_ARG`, all without it.
pub fn sample_ratio() -> f64 {
    let ratio = std::env::var("OTEL_TRACES_SAMPLER_ARG").ok().and_then(|text| text.parse().ok());
    ratio.filter(|ratio: &f64| (0.0..=1.0).contains(ratio)).unwrap_or(1.0)
}

/// The requests' end of the queue.
pub struct Spans {
    queue: SyncSender<Arc<Decision>>,
    dropped: IntCounter,
}

impl Spans {
    /// Starts the sender if a collector is configured.
    pub fn from_env(metrics: &super::Metrics) -> anyhow::Result<Option<Self>> {
        let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint =
            match (env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), env("OTEL_EXPORTER_OTLP_ENDPOINT")) {
                (Some(whole), _) => Endpoint::parse(&whole)?,
                (None, Some(base)) => {
                    Endpoint::parse(&format!("{}/v1/traces", base.trim_end_matches('/')))?
                }
                (None, None) => return Ok(None),
            };
        let service = env("OTEL_SERVICE_NAME").unwrap_or_else(|| "penstock".into());
        Self::start(endpoint, service, metrics.spans_dropped.clone()).map(Some)
    }

    fn start(endpoint: Endpoint, service: String, dropped: IntCounter) -> anyhow::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("spans".into())
            .spawn(move || send_batches(&waiting, &endpoint, &service, &lost))?;
        Ok(Self { queue, dropped })
    }

    /// Queues a request's span if it is sampled, or counts that it could not.
    pub fn record(&self, decision: &Arc<Decision>) {
        if decision.trace.sampled && self.queue.try_send(decision.clone()).is_err() {
            self.dropped.inc();
        }
    }
}

/// Where a collector takes traces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    authority: String,
    address: String,
    path: String,
}

impl Endpoint {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: http::Uri =
            url.parse().with_context(|| format!("the OTLP endpoint {url:?} is no URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("the OTLP endpoint {url:?} is not http://; use a collector beside this process");
        }
        let authority =
            uri.authority().with_context(|| format!("the OTLP endpoint {url:?} has no host"))?;
        let port = authority.port_u16().unwrap_or(4318);
        Ok(Self {
            authority: authority.to_string(),
            address: format!("{}:{port}", authority.host()),
            path: uri.path().to_owned(),
        })
    }

    /// Sends one request and reads the status of its answer.
    fn post(&self, body: &[u8]) -> anyhow::Result<()> {
        let address = self.address.to_socket_addrs()?.next().context("the name has no address")?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.path,
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        if !status.starts_with(b"HTTP/1.") || status[9] != b'2' {
            bail!("it answered {}", String::from_utf8_lossy(&status));
        }
        Ok(())
    }
}

/// A batch: as soon as it is full, or after `patience` with what is there.
fn gather(
    first: Arc<Decision>,
    waiting: &Receiver<Arc<Decision>>,
    patience: Duration,
) -> Vec<Arc<Decision>> {
    let due = clock::now() + patience;
    let mut batch = vec![first];
    while batch.len() < BATCH {
        let left = due.saturating_duration_since(clock::now());
        match waiting.recv_timeout(left) {
            Ok(next) => batch.push(next),
            Err(_) => break,
        }
    }
    batch
}

fn send_batches(
    waiting: &Receiver<Arc<Decision>>,
    endpoint: &Endpoint,
    service: &str,
    lost: &IntCounter,
) {
    let mut reachable = true;
    while let Ok(first) = waiting.recv() {
        let batch = gather(first, waiting, GATHER);
        let body = serde_json::to_vec(&document(&batch, service)).unwrap_or_default();
        let sent = endpoint.post(&body);
        if let Err(error) = &sent {
            lost.inc_by(batch.len() as u64);
            // Once, not once a second for as long as it is gone.
            if reachable {
                tracing::warn!(address = %endpoint.address, %error, "spans cannot be delivered");
            }
        }
        reachable = sent.is_ok();
    }
}

/// An `ExportTraceServiceRequest`.
fn document(batch: &[Arc<Decision>], service: &str) -> Value {
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeSpans": [{
            "scope": { "name": "penstock" },
            "spans": batch.iter().map(|decision| span(decision)).collect::<Vec<_>>(),
        }],
    }]})
}

/// A method as spans name it: a client's own inventions would be as many names.
fn method_of(decision: &Decision) -> &str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let method = decision.method.as_str();
    if KNOWN.contains(&method) { method } else { "_OTHER" }
}

/// A server span. The names of attributes are OpenTelemetry's semantic conventions where it has
/// any.
fn span(decision: &Decision) -> Value {
    const SERVER: u8 = 2;
    const ERROR: u8 = 2;
    let start = decision.began_unix_micros * 1_000;
    let end = start + i64::try_from(decision.duration_micros * 1_000).unwrap_or(0);
    let mut attributes = vec![
        text("http.request.method", method_of(decision)),
        text("http.route", decision.route.name()),
        number("http.response.status_code", u64::from(decision.status)),
        text("client.address", &decision.client.address.to_string()),
        text("penstock.policy_version", &decision.policy_version),
        text("penstock.cache", decision.cache.outcome.name()),
    ];
    attributes.extend(decision.mode.map(|mode| text("penstock.mode", mode.name())));
    attributes.extend(decision.problem.map(|problem| text("error.type", problem)));
    attributes.extend(decision.upstream.as_ref().map(|used| text("server.address", &used.server)));
    attributes.extend(
        decision
            .stages
            .iter()
            .map(|stage| number(&format!("penstock.stage.{}_us", stage.name), stage.micros)),
    );
    let mut span = json!({
        "traceId": decision.trace.trace_id,
        "spanId": decision.trace.span_id,
        "name": format!("{} {}", method_of(decision), decision.route.name()),
        "kind": SERVER,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = decision.trace.parent {
        span["parentSpanId"] = json!(parent);
    }
    if decision.status >= 500 || decision.status == 0 {
        span["status"] = json!({ "code": ERROR });
    }
    span
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// 64-bit integers are strings in OTLP's JSON.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::decision;
    use std::net::TcpListener;

    #[test]
    fn endpoints() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            let seen = Endpoint::parse(url).ok();
            let seen = seen.as_ref().map(|e| (e.address.as_str(), e.path.as_str()));
            assert_eq!(seen, expected, "{url}");
        };
        check("http://127.0.0.1:4318/v1/traces", Some(("127.0.0.1:4318", "/v1/traces")));
        check("http://collector/v1/traces", Some(("collector:4318", "/v1/traces")));
        check("http://[::1]:9/x", Some(("[::1]:9", "/x")));
        check("https://collector/v1/traces", None);
        check("collector:4318", None);
        check("", None);
    }

    #[test]
    fn a_decision_becomes_a_span() {
        let mut record = decision();
        record.stage("engine", Duration::from_micros(42));
        record.status = 503;
        let span = span(&record);
        assert_eq!(span["traceId"], record.trace.trace_id.to_string());
        assert_eq!(span["name"], "GET search");
        assert_eq!(span["startTimeUnixNano"], "1700000000123456000");
        assert_eq!(span["endTimeUnixNano"], "1700000000123606000");
        assert_eq!(span["status"]["code"], 2);
        let attributes = span["attributes"].as_array().unwrap();
        assert!(attributes.contains(&number("penstock.stage.engine_us", 42)));
        assert!(span.get("parentSpanId").is_none());
    }

    #[test]
    fn methods_nobody_knows_have_one_name() {
        let mut record = decision();
        record.method = "BREW".into();
        let span = span(&record);
        assert_eq!(span["name"], "_OTHER search");
        let attributes = span["attributes"].as_array().unwrap();
        assert!(attributes.contains(&text("http.request.method", "_OTHER")));
    }

    #[test]
    fn a_batch_waits_until_it_is_full_or_due() {
        let (queue, waiting) = sync_channel(QUEUE);
        let record = Arc::new(decision());
        for _ in 0..BATCH + 9 {
            queue.try_send(record.clone()).unwrap();
        }
        // A patience no test has: what is full goes at once.
        let full = gather(record.clone(), &waiting, Duration::from_secs(3_600));
        assert_eq!(full.len(), BATCH);
        let rest = gather(record.clone(), &waiting, Duration::from_millis(20));
        assert_eq!(rest.len(), 11);
        drop(queue);
        assert_eq!(gather(record, &waiting, Duration::from_secs(3_600)).len(), 1);
    }

    /// A collector that takes one request and answers with `status`: the request.
    fn collector(status: &'static str) -> (Endpoint, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let request = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = String::new();
            let mut part = [0; 4_096];
            while !seen.ends_with("]}]}") {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "the request ended early: {seen}");
                seen.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            // In one piece: the client may leave as soon as it has read the status.
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            seen
        });
        (Endpoint::parse(&url).unwrap(), request)
    }

    #[test]
    fn a_collector_gets_a_batch() {
        let (endpoint, request) = collector("200 OK");
        let record = Arc::new(decision());
        let body = document(&[record.clone(), record.clone()], "shop").to_string();
        endpoint.post(body.as_bytes()).unwrap();
        let request = request.join().unwrap();
        assert!(request.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{request}");
        assert_eq!(request.matches(&record.trace.span_id.to_string()).count(), 2);
        assert!(request.contains(r#"{"stringValue":"shop"}"#), "{request}");
    }

    #[test]
    fn a_collector_that_refuses_is_an_error() {
        let (endpoint, request) = collector("503 Service Unavailable");
        let body = document(&[Arc::new(decision())], "shop").to_string();
        assert!(endpoint.post(body.as_bytes()).unwrap_err().to_string().contains("503"));
        request.join().unwrap();
    }
}
