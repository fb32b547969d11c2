//! A client that keeps its connections, for what wrk does not tell apart: where each answer came from.

use anyhow::{Context, bail};
use penstock_config::clock;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An answer, as far as benches look at it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// `X-Cache`.
    pub cache: String,
    /// `X-Penstock-Mode`.
    pub mode: String,
    /// When it was back.
    pub at: Instant,
    /// From being asked to the last byte.
    pub took: Duration,
}

/// A kept connection.
pub struct Client {
    stream: TcpStream,
    host: String,
}

impl Client {
    /// Connects to `address`; every request comes from the client address `who`.
    pub fn connect(address: SocketAddr, who: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, host: format!("Host: shop\r\nX-Forwarded-For: {who}\r\n\r\n") })
    }

    /// GET of `path`.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.get_due(path, clock::now())
    }

    /// GET of `path`, whose time runs from `due` on: in an open loop waiting for one's turn counts.
    pub fn get_due(&mut self, path: &str, due: Instant) -> anyhow::Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\n{}", self.host);
        self.stream.write_all(request.as_bytes())?;
        let head = self.read()?;
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value).to_owned()
        };
        let status = head.get(9..12).context("no status")?.parse()?;
        let (cache, mode) = (header("x-cache"), header("x-penstock-mode"));
        let at = clock::now();
        Ok(Answer { status, cache, mode, at, took: at.saturating_duration_since(due) })
    }

    /// Reads a whole answer; its head in lower case.
    fn read(&mut self) -> anyhow::Result<String> {
        let mut answer = Vec::with_capacity(4_096);
        let mut piece = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            answer.extend_from_slice(&piece[..read]);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("no Content-Length")?.parse()?;
            if answer.len() >= end + 4 + length {
                return Ok(head);
            }
        }
    }
}

/// The time that `percent` of the answers do not exceed, microseconds; 0 where there is none.
pub fn percentile<'a>(answers: impl IntoIterator<Item = &'a Answer>, percent: usize) -> f64 {
    let mut took: Vec<Duration> = answers.into_iter().map(|answer| answer.took).collect();
    took.sort();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e6)
}

/// How many answers have each text.
pub fn shares(answers: &[Answer], of: impl Fn(&Answer) -> &str) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for answer in answers {
        *shares.entry(of(answer).to_owned()).or_default() += 1;
    }
    shares
}
