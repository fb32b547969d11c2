//! The proxy as a process: started on free ports, watched, killed by its id.

use crate::binaries;
use crate::items::Item;
use crate::raw::{Raw, RawReply};
use crate::reply::Reply;
use crate::shop::Shop;
use crate::wait::{until, until_true};
use rand::Rng;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

/// A start slower than this is a failure, also on a loaded machine.
pub const START: Duration = Duration::from_secs(60);
/// A stop slower than this is a failure, also on a loaded machine.
pub const STOP: Duration = Duration::from_secs(60);
/// Lines of the log that a failed test prints.
const LOG_TAIL: usize = 80;

/// A running `penstock`. Dropping it kills the process; a test that fails prints its log, and a
/// log with a panic in it fails the test.
#[derive(Debug)]
pub struct Penstock {
    /// Public listener.
    pub address: SocketAddr,
    /// Operations listener.
    pub ops: SocketAddr,
    /// The data folder.
    pub shop: Arc<Shop>,
    child: Child,
    log: PathBuf,
    http: reqwest::Client,
    setup: Setup,
}

/// How a proxy is started.
#[derive(Debug, Clone)]
pub struct Setup {
    shop: Arc<Shop>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    address: SocketAddr,
    ops: SocketAddr,
}

impl Setup {
    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// The application behind the proxy: one or several addresses.
    pub fn upstream(self, servers: &[SocketAddr]) -> Self {
        let servers: Vec<String> =
            servers.iter().map(|server| format!("http://{server}")).collect();
        self.env("PENSTOCK_UPSTREAM", servers.join(","))
    }

    /// A policy file that is there before the start.
    pub fn policy(self, file: &str, content: &str) -> Self {
        self.shop.write(&format!("policy/{file}"), content);
        self
    }

    /// An argument of `penstock run`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Starts the process and returns at once.
    pub fn spawn(self) -> Penstock {
        let number = fs::read_dir(self.shop.data()).map_or(0, Iterator::count);
        let log = (number..number + 1_000)
            .map(|number| self.shop.data().join(format!("test-{number}.log")))
            .find(|path| !path.exists())
            .expect("some number is free");
        let out = File::create(&log).expect("the data folder is writable");
        let err = out.try_clone().expect("a file can be shared");
        let child = binaries::command("penstock", &["run"])
            .args(&self.args)
            .env("PENSTOCK_LISTEN", self.address.to_string())
            .env("PENSTOCK_OPS_LISTEN", self.ops.to_string())
            .env("PENSTOCK_DATA_DIR", self.shop.data())
            .env("PENSTOCK_WORKERS", "2")
            .env("PENSTOCK_LOG", "info")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("a binary that exists can be started");
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a plain client can be built");
        Penstock {
            address: self.address,
            ops: self.ops,
            shop: Arc::clone(&self.shop),
            child,
            log,
            http,
            setup: self,
        }
    }

    /// Starts the process and waits until it says that it is ready.
    pub async fn start(self) -> Penstock {
        let mut penstock = self.spawn();
        penstock.wait_ready().await;
        penstock
    }
}

impl Penstock {
    /// A proxy to be over `shop`, on free ports of the loopback.
    pub fn over(shop: impl Into<Arc<Shop>>) -> Setup {
        Setup {
            shop: shop.into(),
            args: Vec::new(),
            env: Vec::new(),
            address: free_address(),
            ops: free_address(),
        }
    }

    /// A proxy over the demo shop, ready.
    pub async fn demo() -> Self {
        Self::over(Shop::demo()).start().await
    }

    /// A proxy over an empty shop, ready, in front of `servers`.
    pub async fn before(servers: &[SocketAddr]) -> Self {
        Self::over(Shop::empty()).upstream(servers).start().await
    }

    /// Waits for `/readyz`; a process that ends instead fails the test.
    pub async fn wait_ready(&mut self) {
        self.wait_for("/readyz").await;
    }

    /// Waits for `/livez`; a process that ends instead fails the test.
    pub async fn wait_alive(&mut self) {
        self.wait_for("/livez").await;
    }

    async fn wait_for(&mut self, probe: &str) {
        let url = format!("http://{}{probe}", self.ops);
        let http = self.http.clone();
        until_true(&format!("penstock answers {probe}"), START, async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("penstock ended ({status}):\n{}", self.logs());
            }
            let answer = http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// The same start again: same ports, same folder, same environment.
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A URL of the public listener.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// The HTTP client of this test, for requests with headers and bodies.
    pub fn request(&self, method: &str, target: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, self.url(target))
    }

    /// GET from the public listener.
    pub async fn get(&self, target: &str) -> Reply {
        self.send(self.request("GET", target)).await
    }

    /// GET that must be a 200 with ranked products.
    pub async fn items(&self, target: &str) -> Vec<Item> {
        self.get(target).await.items()
    }

    /// POST of JSON to the public listener.
    pub async fn post(&self, target: &str, body: &serde_json::Value) -> Reply {
        self.send(self.request("POST", target).json(body)).await
    }

    /// Sends a request that must get an answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await;
        let response = response.unwrap_or_else(|error| panic!("no answer: {error:?}"));
        Reply::read(response).await.unwrap_or_else(|error| panic!("no whole answer: {error:?}"))
    }

    /// GET from the operations listener.
    pub async fn ops(&self, target: &str) -> Reply {
        let url = format!("http://{}{target}", self.ops);
        self.send(self.http.get(url)).await
    }

    /// A request to the operations listener.
    pub fn ops_request(&self, method: &str, target: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, format!("http://{}{target}", self.ops))
    }

    /// A command (below `/admin/rate-limit`) with the token of this process.
    pub async fn command(
        &self,
        method: &str,
        command: &str,
        body: Option<&serde_json::Value>,
    ) -> Reply {
        self.admin(method, &format!("rate-limit/{command}"), body).await
    }

    /// A command (below `/admin`) with the token of this process.
    pub async fn admin(
        &self,
        method: &str,
        command: &str,
        body: Option<&serde_json::Value>,
    ) -> Reply {
        let token = std::fs::read_to_string(self.shop.data().join("ops.token"))
            .expect("the process made a token");
        let mut request =
            self.ops_request(method, &format!("/admin/{command}")).bearer_auth(token.trim());
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    /// A line of the metrics as a number: the whole name with its labels; 0 where there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.ops("/metrics").await.expect(200).body;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("metrics are numbers"))
    }

    /// The status page.
    pub async fn status(&self) -> serde_json::Value {
        self.ops("/status").await.expect(200).json()
    }

    /// A connection for bytes of the test's own making.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// GET with a target no client library would send.
    pub async fn raw_get(&self, target: impl AsRef<[u8]>) -> Option<RawReply> {
        let mut connection = self.raw().await;
        connection.send(b"GET ").await.send(target).await;
        connection
            .send(b" HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
            .await
            .reply()
            .await
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        binaries::signal(self.pid(), name);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the process to end by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        until("penstock ends", STOP, async || self.child.try_wait().ok().flatten()).await
    }

    /// What it has written so far.
    pub fn logs(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Resident memory in KiB: now (`VmRSS`) or the most there was (`VmHWM`).
    pub fn memory_kib(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("a running process has a status");
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("{field} in {status}"))
    }
}

impl Drop for Penstock {
    fn drop(&mut self) {
        self.kill();
        let logs = self.logs();
        if std::thread::panicking() {
            let lines: Vec<&str> = logs.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            println!("--- log of penstock:\n{}", tail.join("\n"));
        } else {
            assert!(!logs.contains("panicked at"), "penstock panicked:\n{logs}");
        }
    }
}

/// An address on the loopback nobody listens on. Below the range the system gives to clients, so
/// that no connection of a test running beside this one takes it in between.
pub fn free_address() -> SocketAddr {
    let mut random = rand::rng();
    (0..1_000)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, random.random_range(10_000..32_000))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a thousand ports are not all taken")
}
