//! Real Redis: one server, a cluster, a service with sentinels. Each on free ports with a folder of
//! its own, gone when it is dropped.
//!
//! Everything waits by asking, and says in vain for what it waited.

use crate::binaries::signal;
use crate::penstock::free_address;
use crate::wait::until_true;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server process.
#[derive(Debug)]
pub struct RedisServer {
    /// Where it listens, also after a restart.
    pub address: SocketAddr,
    password: Option<String>,
    args: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// A server without password and without persistence, ready.
    pub async fn start() -> Self {
        Self::start_with(None, &[]).await
    }

    /// A server that asks for a password.
    pub async fn with_password(password: &str) -> Self {
        Self::start_with(Some(password), &[]).await
    }

    /// A server that keeps what it was told over a restart.
    pub async fn with_aof() -> Self {
        Self::start_with(None, &["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server with more arguments, as `--name value`.
    pub async fn start_with(password: Option<&str>, args: &[&str]) -> Self {
        let mut server = Self::prepare(password, args);
        server.spawn().await;
        server
    }

    /// A server that is not started yet; [`RedisServer::restart`] does.
    pub fn prepare(password: Option<&str>, args: &[&str]) -> Self {
        Self {
            address: free_address(),
            password: password.map(str::to_owned),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            folder: tempfile::tempdir().expect("a folder for the server"),
            child: None,
        }
    }

    async fn spawn(&mut self) {
        let mut command = Command::new("redis-server");
        if self.args.iter().any(|arg| arg == "--sentinel") {
            command.arg(self.folder.path().join("sentinel.conf"));
        } else {
            command.args(["--save", "", "--enable-debug-command", "yes"]);
            if let Some(password) = &self.password {
                command.args(["--requirepass", password]);
            }
        }
        let child = command
            .args(["--port", &self.address.port().to_string(), "--bind", "127.0.0.1"])
            .args(&self.args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        until_true("redis-server answers", PATIENCE, async || {
            self.try_ask(&["PING"]).is_some_and(|answer| answer.contains("PONG"))
        })
        .await;
    }

    /// `kill -9`, and waits until it is gone. Does nothing to one that is not running.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was, killed before if need be.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn().await;
    }

    /// Stops it without ending it: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// For `PENSTOCK_REDIS_URL`.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address),
            None => format!("redis://{}", self.address),
        }
    }

    /// Sends a command over a connection of its own; the answer as `redis-cli` would print it,
    /// elements one per line. An error is its text.
    pub fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command)
            .unwrap_or_else(|| panic!("{}: no answer to {command:?}", self.address))
    }

    /// As [`RedisServer::ask`]; `None` when nobody answers.
    pub fn try_ask(&self, command: &[&str]) -> Option<String> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut reader = BufReader::new(stream);
        if let Some(password) = &self.password {
            say(reader.get_mut(), &["AUTH", password])?;
            hear(&mut reader)?;
        }
        say(reader.get_mut(), command)?;
        hear(&mut reader)
    }

    async fn wait_for(&self, what: &str, command: &[&str], expected: &str) {
        until_true(&format!("{what} at {}", self.address), PATIENCE, async || {
            self.try_ask(command).is_some_and(|answer| answer.contains(expected))
        })
        .await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(stream: &mut TcpStream, command: &[&str]) -> Option<()> {
    let mut bytes = format!("*{}\r\n", command.len());
    for part in command {
        bytes += &format!("${}\r\n{part}\r\n", part.len());
    }
    stream.write_all(bytes.as_bytes()).ok()
}

fn hear(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let line = line.trim_end();
    let (kind, rest) = (line.chars().next()?, line.get(1..)?);
    match kind {
        '$' => {
            let Ok(length) = rest.parse::<usize>() else {
                return Some(String::new());
            };
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
        '*' => {
            let elements = rest.parse::<usize>().unwrap_or(0);
            let parts: Option<Vec<_>> = (0..elements).map(|_| hear(reader)).collect();
            Some(parts?.join("\n"))
        }
        _ => Some(rest.to_owned()),
    }
}

/// A cluster.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters at the start; each has an equal share of the slots, in this order.
    pub masters: Vec<RedisServer>,
    /// As many, or none.
    pub replicas: Vec<RedisServer>,
}

/// Slots of a cluster.
const SLOTS: usize = 16_384;

impl RedisCluster {
    /// `masters` masters without replicas, ready.
    pub async fn start(masters: usize) -> Self {
        Self::of(masters, false).await
    }

    /// `masters` masters with a replica each, which takes over within about two seconds.
    pub async fn with_replicas(masters: usize) -> Self {
        Self::of(masters, true).await
    }

    async fn of(count: usize, with_replicas: bool) -> Self {
        let mut masters = Vec::new();
        for at in 0..count {
            let master = Self::node().await;
            let (first, last) = (at * SLOTS / count, (at + 1) * SLOTS / count - 1);
            master.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            // Nodes with the same epoch argue about slots first.
            master.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            masters.push(master);
        }
        let mut replicas = Vec::new();
        for _ in 0..if with_replicas { count } else { 0 } {
            replicas.push(Self::node().await);
        }
        let cluster = Self { masters, replicas };
        let size = cluster.nodes().count();
        let first = &cluster.masters[0];
        for node in cluster.nodes().skip(1) {
            let port = node.address.port().to_string();
            let bus = bus_port(node).to_string();
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for node in cluster.nodes() {
            let expected = format!("cluster_known_nodes:{size}");
            node.wait_for("all nodes", &["CLUSTER", "INFO"], &expected).await;
        }
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id = master.ask(&["CLUSTER", "MYID"]);
            replica.wait_for("the master", &["CLUSTER", "NODES"], &id).await;
            assert_eq!(replica.ask(&["CLUSTER", "REPLICATE", &id]), "OK");
        }
        for replica in &cluster.replicas {
            replica.wait_for("the master's data", &["INFO"], "master_link_status:up").await;
        }
        for node in cluster.nodes() {
            node.wait_for("the cluster", &["CLUSTER", "INFO"], "cluster_state:ok").await;
        }
        cluster
    }

    async fn node() -> RedisServer {
        let bus = free_address().port().to_string();
        let args = [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", "1000"],
            ["--cluster-port", &bus],
            ["--cluster-require-full-coverage", "no"],
            ["--repl-diskless-sync-delay", "0"],
        ];
        RedisServer::start_with(None, args.as_flattened()).await
    }

    /// Masters, then replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.masters.iter().chain(&self.replicas)
    }

    /// For `PENSTOCK_REDIS_URL`.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes().map(|node| node.address.to_string()).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Waits until every node that answers calls the replica of master `at` a master.
    pub async fn wait_failover(&self, at: usize) {
        self.replicas[at].wait_for("promotion", &["ROLE"], "master").await;
        for node in self.nodes().filter(|node| node.child.is_some()) {
            node.wait_for("the cluster", &["CLUSTER", "INFO"], "cluster_slots_ok:16384").await;
        }
    }
}

fn bus_port(node: &RedisServer) -> u16 {
    let at = node.args.iter().position(|arg| arg == "--cluster-port").expect("a cluster's node");
    node.args[at + 1].parse().expect("a port")
}

/// A master, a replica and three sentinels that call them `shop`.
#[derive(Debug)]
pub struct Sentinels {
    /// The master at the start.
    pub master: RedisServer,
    /// The replica at the start.
    pub replica: RedisServer,
    /// The sentinels.
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Ready; a dead master is replaced within about three seconds.
    pub async fn start() -> Self {
        let fast = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::start_with(None, &fast).await;
        let port = master.address.port().to_string();
        let follow = ["--replicaof", &format!("127.0.0.1 {port}"), fast[0], fast[1]];
        let replica = RedisServer::start_with(None, &follow).await;
        replica.wait_for("the master's data", &["INFO"], "master_link_status:up").await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let mut sentinel = RedisServer::prepare(None, &["--sentinel"]);
            let settings = format!(
                "sentinel monitor shop 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds shop 500\n\
                 sentinel failover-timeout shop 3000\n"
            );
            std::fs::write(sentinel.folder.path().join("sentinel.conf"), settings)
                .expect("its folder is writable");
            sentinel.spawn().await;
            sentinels.push(sentinel);
        }
        for sentinel in &sentinels {
            let info = ["INFO", "sentinel"];
            sentinel.wait_for("each other", &info, "slaves=1,sentinels=3").await;
        }
        Self { master, replica, sentinels }
    }

    /// For `PENSTOCK_REDIS_URL`.
    pub fn url(&self) -> String {
        let nodes: Vec<String> =
            self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("redis+sentinel://{}/shop", nodes.join(","))
    }
}
