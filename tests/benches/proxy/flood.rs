//! A flood of one client beside a polite one: what the polite one notices.

use crate::process::Process;
use anyhow::{Context, bail};
use penstock_config::clock;
use penstock_tests::binaries;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Between two requests of the polite client.
const PACE: Duration = Duration::from_millis(10);
/// Connections of the flood.
const FLOODING: &str = "16";
/// Far above what the polite client asks.
const GENEROUS: &str = "search=60000/65000";

/// What the polite client saw in one round.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Latencies, ascending.
    pub took: Vec<Duration>,
    /// Answers that were not 200.
    pub failed: usize,
}

impl Seen {
    /// The latency that `percent` of the answers do not exceed, in microseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let at = (self.took.len() * percent / 100).min(self.took.len() - 1);
        self.took[at].as_secs_f64() * 1e6
    }
}

/// Makes a key for the polite client in the policy folder of a proxy.
pub fn key(policy: &Path) -> anyhow::Result<String> {
    let create = ["keys", "create", "--name", "polite", "--limit", GENEROUS, "--json"];
    let mut command = binaries::command("penstock-control", &create);
    let output = command.arg("--policy-dir").arg(policy).output()?;
    let made: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(made["key"].as_str().context("no key")?.to_owned())
}

/// One round of the polite client, with or without the flood.
pub fn round(
    server: &Process,
    key: &str,
    paths: &[String],
    seconds: u64,
    flooded: bool,
) -> anyhow::Result<Seen> {
    let mut flood = flooded.then(|| begin(server.address(), &paths[0], seconds)).transpose()?;
    let seen = polite(server.address(), key, paths, Duration::from_secs(seconds));
    if let Some(flood) = &mut flood {
        flood.wait()?;
    }
    seen
}

/// wrk in the name of one address, as fast as it goes.
fn begin(address: SocketAddr, path: &str, seconds: u64) -> anyhow::Result<Child> {
    Command::new("wrk")
        .args(["-t1", "-c", FLOODING, "-d", &format!("{}s", seconds + 1)])
        .args(["-H", "X-Forwarded-For: 203.0.113.9"])
        .arg(format!("http://{address}{path}"))
        .stdout(Stdio::null())
        .spawn()
        .context("wrk: is it installed? (scripts/ensure bench)")
}

fn polite(
    address: SocketAddr,
    key: &str,
    paths: &[String],
    time: Duration,
) -> anyhow::Result<Seen> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut seen = Seen { took: Vec::new(), failed: 0 };
    let begun = clock::now();
    for path in paths.iter().cycle() {
        let asked = clock::now();
        if asked - begun > time {
            break;
        }
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {key}\r\n\
             X-Forwarded-For: 203.0.113.1\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let status = read_answer(&mut stream)?;
        seen.took.push(clock::now() - asked);
        seen.failed += usize::from(status != 200);
        std::thread::sleep(PACE.saturating_sub(clock::now() - asked));
    }
    seen.took.sort();
    Ok(seen)
}

/// Reads one answer with a `Content-Length`; its status.
fn read_answer(stream: &mut TcpStream) -> anyhow::Result<u16> {
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            bail!("the connection was closed");
        }
        answer.extend_from_slice(&piece[..read]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("no Content-Length")?;
        if answer.len() >= end + 4 + length.parse::<usize>()? {
            return Ok(head.get(9..12).context("no status")?.parse()?);
        }
    }
}
