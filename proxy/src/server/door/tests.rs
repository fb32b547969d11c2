use super::*;
use crate::run;
use penstock_config::bootstrap::Bootstrap;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::server::configuration::ServerConf;
use std::os::fd::AsRawFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn a_wait_has_a_deadline_until_it_is_over() {
    let began = penstock_config::clock::now();
    let wait = Wait { began, deadline: AtomicU64::new(0) };
    let at = |millis| began + Duration::from_millis(millis);
    wait.until(at(1_000), Duration::from_secs(2));
    assert_eq!(wait.left(at(1_000)), Some(Duration::from_secs(2)));
    assert_eq!(wait.left(at(2_500)), Some(Duration::from_millis(500)));
    assert_eq!(wait.left(at(9_000)), Some(Duration::ZERO));
    wait.over();
    assert_eq!(wait.left(at(9_000)), None);
}

/// A door over an empty data folder, without an application and without an engine.
struct House {
    door: Arc<Door>,
    app: Arc<App>,
    _folder: tempfile::TempDir,
    _shutdown: tokio::sync::watch::Sender<bool>,
    shutdown: ShutdownWatch,
}

impl House {
    fn new() -> Self {
        Self::with(b"")
    }

    fn with(settings: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap().to_owned();
        let env = move |name: &str| (name == "PENSTOCK_DATA_DIR").then(|| data.clone());
        let settings = Bootstrap::parse("penstock.toml", settings, &env).unwrap();
        let app = Arc::new(run::app(settings, &prometheus::Registry::new()).unwrap());
        let mut proxy = HttpProxy::new(Gateway(app.clone()), Arc::new(ServerConf::default()));
        proxy.handle_init_modules();
        let (sender, shutdown) = tokio::sync::watch::channel(false);
        Self {
            door: Arc::new(Door::new(proxy, app.clone())),
            app,
            _folder: folder,
            _shutdown: sender,
            shutdown,
        }
    }

    /// A client's end of a connection through the door.
    async fn connect(&self) -> TcpStream {
        self.connect_from("127.0.0.1").await
    }

    /// As [`House::connect`], from another address of the loopback.
    async fn connect_from(&self, address: &str) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let client = socket.connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let mut socket = Socket::from(accepted.unwrap().0);
        socket.set_socket_digest(SocketDigest::from_raw_fd(socket.as_raw_fd()));
        let stream: Stream = Box::new(socket);
        let (door, shutdown) = (self.door.clone(), self.shutdown.clone());
        tokio::spawn(async move { door.process_new(stream, &shutdown).await });
        client.unwrap()
    }

    /// Sends a request and reads until the answer's body ends with `end`.
    async fn ask(&self, request: &[u8], end: &str) -> String {
        let mut client = self.connect().await;
        talk(&mut client, request, end).await
    }
}

async fn talk(client: &mut TcpStream, request: &[u8], end: &str) -> String {
    client.write_all(request).await.unwrap();
    let mut seen = Vec::new();
    let reading = async {
        let mut part = [0; 4_096];
        while !String::from_utf8_lossy(&seen).ends_with(end) {
            match client.read(&mut part).await {
                Ok(read) if read > 0 => seen.extend_from_slice(&part[..read]),
                _ => break,
            }
        }
    };
    let bound = tokio::time::timeout(Duration::from_secs(20), reading).await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(bound.is_ok(), "no answer to {request:?}, only {seen:?}");
    seen
}

#[tokio::test]
async fn the_shortest_request_is_answered_at_once() {
    let house = House::new();
    for request in
        ["GET / HTTP/1.0\r\n\r\n", "PUT / HTTP/1.0\r\n\r\n", "OPTIONS / HTTP/1.0\r\n\r\n"]
    {
        let answer = house.ask(request.as_bytes(), "}").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{request:?}: {answer}");
        assert!(answer.contains("/problems/not-found"), "{request:?}: {answer}");
    }
    assert_eq!(house.app.metrics.slow_headers.get(), 0);
}

#[tokio::test]
async fn http2_begins_with_its_preface() {
    let house = House::new();
    let mut client = house.connect().await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut frame = [0; 9];
    client.read_exact(&mut frame).await.unwrap();
    const SETTINGS: u8 = 4;
    assert_eq!(frame[3], SETTINGS);
}

/// Bytes of HTTP/2: the preface, empty settings, and a GET of `/` for `s`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GET: &[u8] = &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86, 0x41, 1, b's'];

#[tokio::test]
async fn http2_has_to_come_to_a_request() {
    let house = House::with(b"[bounds]\nheader_timeout_seconds = 1\n");
    let closed_after = async |sent: &[&[u8]]| {
        let mut client = house.connect().await;
        client.write_all(&sent.concat()).await.unwrap();
        let all = tokio::time::timeout(Duration::from_secs(3), async {
            let mut seen = Vec::new();
            client.read_to_end(&mut seen).await
        });
        all.await.is_ok()
    };
    assert!(closed_after(&[&PREFACE[..7]]).await, "half a preface");
    assert!(closed_after(&[PREFACE, EMPTY_SETTINGS]).await, "no request");
    assert!(closed_after(&[PREFACE, EMPTY_SETTINGS, &GET[..12]]).await, "half a request");
    assert_eq!(house.app.metrics.slow_headers.get(), 3);
    assert!(!closed_after(&[PREFACE, EMPTY_SETTINGS, GET]).await, "kept for the next request");
    assert_eq!(house.app.metrics.slow_headers.get(), 3);
}

#[tokio::test]
async fn refusals_keep_the_connection() {
    let house = House::new();
    let mut client = house.connect().await;
    let rows = [
        ("GET /search HTTP/1.1\r\nHost: s\r\n\r\n", 400, "bad-parameter"),
        ("GET /search?q=a HTTP/1.1\r\nHost: s\r\n\r\n", 503, "not-ready"),
        ("GET /recommend/%zz HTTP/1.1\r\nHost: s\r\n\r\n", 400, "bad-path"),
        (
            "POST /search HTTP/1.1\r\nHost: s\r\nContent-Length: 3\r\n\r\nabc",
            405,
            "method-not-allowed",
        ),
        ("POST /nowhere HTTP/1.1\r\nHost: s\r\nContent-Length: 3\r\n\r\nabc", 404, "not-found"),
        (
            "POST /events HTTP/1.1\r\nHost: s\r\nContent-Length: 2\r\n\r\n{}",
            415,
            "unsupported-media-type",
        ),
        (
            "POST /events HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            400,
            "invalid-events",
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        ("GET /health HTTP/1.1\r\nHost: s\r\n\r\n", 503, "not-ready"),
    ];
    for (request, status, problem) in rows {
        let answer = talk(&mut client, request.as_bytes(), "}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains(&format!("/problems/{problem}\"")), "{request:?}: {answer}");
        assert!(answer.contains("Connection: keep-alive\r\n"), "{request:?}: {answer}");
    }
    assert_eq!(house.app.drain.connections(), 1);
}

#[tokio::test]
async fn a_decision_is_left_by_every_request() {
    let house = House::new();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = format!(
        "GET /popular HTTP/1.1\r\nHost: s\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n"
    );
    let answer = house.ask(request.as_bytes(), "}").await;
    assert!(answer.contains(&format!("X-Trace-ID: {trace}\r\n")), "{answer}");
    let id = crate::telemetry::traceparent::TraceId::parse(trace).unwrap();
    // Written down after the answer was sent.
    let found = loop {
        let found = house.app.decisions.find(id);
        if !found.is_empty() {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].status, found[0].problem), (503, Some("not-ready")));
    assert_eq!(found[0].host, "s");
}

#[tokio::test]
async fn a_body_that_was_not_asked_for_is_not_waited_for() {
    let house = House::new();
    let mut client = house.connect().await;
    let request =
        "POST /events HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let began = penstock_config::clock::now();
    let answer = talk(&mut client, request.as_bytes(), "}").await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

const BEHIND_A_BALANCER: &[u8] = b"trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n\
    [listen]\nproxy_protocol = \"required\"\n[bounds]\nheader_timeout_seconds = 1\n";

impl House {
    /// The client's address and where it was found, of the request with this trace.
    async fn seen(&self, trace: &str) -> (String, crate::identity::Via) {
        let id = crate::telemetry::traceparent::TraceId::parse(trace).unwrap();
        loop {
            if let Some(found) = self.app.decisions.find(id).first() {
                return (found.client.address.to_string(), found.client.via);
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_proxy_header_names_the_client() {
    use crate::identity::Via;
    let house = House::with(BEHIND_A_BALANCER);
    let v2 = |command: u8, source: [u8; 4]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, 0x11, 0, 12]);
        header.extend(source.into_iter().chain([10, 0, 0, 1, 0x1f, 0x90, 0, 80]));
        header
    };
    let forged = "X-Forwarded-For: 6.6.6.6\r\n";
    let rows: [(Vec<u8>, &str, &str, Via); 7] = [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".into(), "", "192.0.2.7", Via::Peer),
        (v2(0x21, [192, 0, 2, 8]), "", "192.0.2.8", Via::Peer),
        // Whose address nobody vouches for is not believed about itself.
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".into(), forged, "192.0.2.7", Via::Peer),
        (b"PROXY UNKNOWN\r\n".into(), forged, "0.0.0.0", Via::Peer),
        // Another proxy of ours in front of the balancer.
        (v2(0x21, [10, 0, 0, 9]), forged, "6.6.6.6", Via::XForwardedFor),
        // The balancer itself.
        (v2(0x20, [0; 4]), "", "127.0.0.1", Via::Peer),
        (v2(0x20, [0; 4]), forged, "6.6.6.6", Via::XForwardedFor),
    ];
    for (number, (header, line, address, via)) in rows.into_iter().enumerate() {
        let trace = format!("{:032x}", number + 1);
        let request = format!(
            "GET /popular HTTP/1.1\r\nHost: s\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n{line}\r\n"
        );
        let mut client = house.connect().await;
        // Torn in the middle of the header.
        client.write_all(&header[..7]).await.unwrap();
        tokio::task::yield_now().await;
        let rest = [&header[7..], request.as_bytes()].concat();
        let answer = talk(&mut client, &rest, "}").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{number}: {answer}");
        assert_eq!(house.seen(&trace).await, (address.to_owned(), via), "{number}");
        // The next request on the connection has no header of its own.
        let answer = talk(&mut client, b"GET /health HTTP/1.1\r\nHost: s\r\n\r\n", "}").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{number}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_without_a_believable_proxy_header_is_closed() {
    let house = House::with(BEHIND_A_BALANCER);
    let request = b"GET /health HTTP/1.1\r\nHost: s\r\n\r\n";
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n";
    let closed = async |from: &str, sent: &[&[u8]]| {
        let mut client = house.connect_from(from).await;
        client.write_all(&sent.concat()).await.unwrap();
        let mut seen = Vec::new();
        let all = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut seen));
        // A connection with bytes nobody read ends with a reset.
        all.await.is_ok() && seen.is_empty()
    };
    let count = |why: &str| house.app.metrics.proxy_headers_refused.with_label_values(&[why]).get();
    assert!(closed("127.0.0.1", &[request]).await);
    assert_eq!(count("malformed"), 1);
    assert!(closed("127.0.0.2", &[header, request]).await);
    assert_eq!(count("untrusted"), 1);
    assert!(closed("127.0.0.1", &[&header[..9]]).await, "half a header");
    assert_eq!(house.app.metrics.slow_headers.get(), 1);
}
