//! Applications behind the proxy, in the test's own process.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A request as the application saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Version on the wire.
    pub version: Version,
    /// Headers.
    pub headers: HeaderMap,
}

impl Seen {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or("?")).collect()
    }
}

/// A page of the application's, as a test wants it.
#[derive(Debug, Clone)]
pub struct Page {
    /// Status, 304 aside: that is what a request with the page's `ETag` or date gets.
    pub status: u16,
    /// Headers, in order.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// The body ends with the value of this header of the request.
    pub echoes: Option<&'static str>,
    /// How long the application takes.
    pub takes: Duration,
}

impl Page {
    /// 200 with `Cache-Control` and a body.
    pub fn of(cache_control: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = match cache_control {
            "" => Vec::new(),
            control => vec![("cache-control", control.to_owned())],
        };
        let takes = Duration::ZERO;
        Self { status: 200, headers, body: body.into(), echoes: None, takes }
    }

    /// With one header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// With another status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// With what a header of the request says at the end of its body.
    #[must_use]
    pub fn echoing(self, header: &'static str) -> Self {
        Self { echoes: Some(header), ..self }
    }

    /// Late.
    #[must_use]
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    fn answer(mut self, request: &HeaderMap) -> Response<Body> {
        let own = |name: &str| self.headers.iter().find(|(other, _)| *other == name);
        let known = |condition: &str, of: &str| {
            let theirs = request.get(condition).and_then(|value| value.to_str().ok());
            own(of).is_some_and(|(_, value)| theirs == Some(value))
        };
        let unchanged =
            known("if-none-match", "etag") || known("if-modified-since", "last-modified");
        if unchanged {
            self.status = 304;
            self.body.clear();
        } else if let Some(value) = self.echoes.and_then(|name| request.get(name)) {
            self.body.extend_from_slice(value.as_bytes());
        }
        let mut answer = Response::builder().status(self.status);
        for (name, value) in self.headers {
            answer = answer.header(name, value);
        }
        let body = Full::new(Bytes::from(self.body)).map_err(|never| match never {}).boxed();
        answer.body(body).expect("headers of the test's own choice")
    }
}

/// An application. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    record: Arc<Record>,
    acceptor: AbortHandle,
}

#[derive(Debug, Default)]
struct Record {
    connections: AtomicUsize,
    requests: Mutex<Vec<Seen>>,
    pages: Mutex<HashMap<String, Page>>,
}

/// What a connection is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// [`answer`] over HTTP/1.1.
    Http1,
    /// [`answer`] over HTTP/2 without TLS.
    H2c,
    /// Every message comes back.
    WebSocket,
    /// The first so many connections are closed at once, then as `Http1`.
    Flaky(usize),
    /// Connections are accepted and nothing is ever said.
    Silent,
    /// These bytes, then a close.
    Says(&'static str),
}

impl Upstream {
    /// HTTP/1.1. Paths it knows: `/echo` sends the body back as it comes; `/sleep/<ms>` answers
    /// late; `/status/<code>`; `/bytes/<n>` sends so many bytes; `/drip` sends ten pieces, 50 ms
    /// apart. Everything else gets what was received, as JSON.
    pub async fn http1() -> Self {
        Self::start(Kind::Http1, any()).await
    }

    /// As [`Upstream::http1`], where somebody expects it.
    pub async fn http1_on(address: SocketAddr) -> Self {
        Self::start(Kind::Http1, address).await
    }

    /// The same over HTTP/2 without TLS.
    pub async fn h2c() -> Self {
        Self::start(Kind::H2c, any()).await
    }

    /// WebSocket: every message comes back.
    pub async fn websocket() -> Self {
        Self::start(Kind::WebSocket, any()).await
    }

    /// Closes the first `connections` connections, then behaves.
    pub async fn flaky(connections: usize) -> Self {
        Self::start(Kind::Flaky(connections), any()).await
    }

    /// Accepts and never answers.
    pub async fn silent() -> Self {
        Self::start(Kind::Silent, any()).await
    }

    /// Answers every request with these bytes and closes.
    pub async fn says(bytes: &'static str) -> Self {
        Self::start(Kind::Says(bytes), any()).await
    }

    /// As [`Upstream::says`], where somebody expects it.
    pub async fn says_on(address: SocketAddr, bytes: &'static str) -> Self {
        Self::start(Kind::Says(bytes), address).await
    }

    async fn start(kind: Kind, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port of the loopback");
        let address = listener.local_addr().expect("a bound socket");
        let record = Arc::new(Record::default());
        let acceptor = tokio::spawn(accept(listener, kind, Arc::clone(&record))).abort_handle();
        Self { address, record, acceptor }
    }

    /// Connections that sent at least a byte, so that health checks by connecting do not count.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Requests so far, but for those to `/health…`.
    pub fn requests(&self) -> Vec<Seen> {
        let requests = self.record.requests.lock().expect("no holder panics");
        let mut requests = requests.clone();
        requests.retain(|seen| !seen.uri.path().starts_with("/health"));
        requests
    }

    /// Answers requests for `path` with `page` from now on.
    pub fn put(&self, path: &str, page: Page) {
        self.record.pages.lock().expect("no holder panics").insert(path.to_owned(), page);
    }

    /// Requests for `path` so far.
    pub fn asked_for(&self, path: &str) -> usize {
        self.requests().iter().filter(|seen| seen.uri.path() == path).count()
    }

    /// The only request so far.
    pub fn only_request(&self) -> Seen {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn accept(listener: TcpListener, kind: Kind, record: Arc<Record>) {
    // Owned by this task: aborting it ends every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, kind, Arc::clone(&record)));
    }
}

async fn serve(mut stream: TcpStream, kind: Kind, record: Arc<Record>) {
    // A health check connects and leaves without a byte: it counts for nothing.
    if !matches!(stream.peek(&mut [0]).await, Ok(read) if read > 0) {
        return;
    }
    let earlier = record.connections.fetch_add(1, Ordering::SeqCst);
    if matches!(kind, Kind::Flaky(first) if earlier < first) {
        return;
    }
    let service = service_fn(move |request| answer(request, Arc::clone(&record)));
    match kind {
        Kind::Http1 | Kind::Flaky(_) => {
            let io = TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
        Kind::H2c => {
            let io = TokioIo::new(stream);
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await;
        }
        Kind::WebSocket => {
            if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        break;
                    }
                }
            }
        }
        Kind::Silent => std::future::pending().await,
        Kind::Says(bytes) => {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(
    request: Request<Incoming>,
    record: Arc<Record>,
) -> Result<Response<Body>, Infallible> {
    record.requests.lock().expect("no holder panics").push(Seen {
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        headers: request.headers().clone(),
    });
    let path = request.uri().path().to_owned();
    let page = record.pages.lock().expect("no holder panics").get(&path).cloned();
    if let Some(page) = page {
        tokio::time::sleep(page.takes).await;
        return Ok(page.answer(request.headers()));
    }
    let number = |prefix: &str| path.strip_prefix(prefix)?.parse::<u64>().ok();
    if path == "/echo" {
        return Ok(Response::new(request.into_body().boxed()));
    }
    if path == "/drip" {
        let pieces = futures_util::stream::unfold(0, |piece| async move {
            if piece > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (piece < 10).then(|| (piece_of(format!("piece {piece}\n")), piece + 1))
        });
        return Ok(Response::new(BodyExt::boxed(StreamBody::new(pieces))));
    }
    if let Some(total) = number("/bytes/") {
        const PIECE: u64 = 64 << 10;
        let pieces = (0..total.div_ceil(PIECE)).map(move |piece| {
            let size = PIECE.min(total - piece * PIECE) as usize;
            piece_of(vec![b'x'; size])
        });
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        return Ok(Response::new(BodyExt::boxed(body)));
    }
    if let Some(millis) = number("/sleep/") {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let status = number("/status/").map_or(200, |code| code as u16);
    Ok(describe(request, status).await)
}

#[expect(clippy::unnecessary_wraps, reason = "a body is a stream of results")]
fn piece_of(data: impl Into<Bytes>) -> Result<Frame<Bytes>, hyper::Error> {
    Ok(Frame::data(data.into()))
}

/// What was received, as JSON.
async fn describe(request: Request<Incoming>, status: u16) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    let headers: Vec<(&str, String)> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str(), value.into_owned())
        })
        .collect();
    let received = serde_json::json!({
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map(ToString::to_string),
        "headers": headers,
        "body_bytes": body.map(|body| body.len()).ok(),
    });
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("x-from", "upstream")
        .body(Full::new(Bytes::from(received.to_string())).map_err(|never| match never {}).boxed())
        .expect("a status of the test's own choice")
}
