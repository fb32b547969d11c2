//! Servers under load: started on a free port, watched for the CPU they use, killed at the end.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A start slower than this is a failure.
const START: Duration = Duration::from_secs(60);
/// How often a server that starts is asked whether it answers.
const POLL: Duration = Duration::from_millis(50);

/// A server of the bench. Killed when dropped.
pub struct Process {
    child: Child,
    address: SocketAddr,
    ops: SocketAddr,
}

impl Process {
    /// Starts `command` and waits until GET of `path` at `ready` is a 200; it serves `address`.
    pub fn start(
        command: Command,
        address: SocketAddr,
        ready: SocketAddr,
        path: &str,
    ) -> anyhow::Result<Self> {
        let answers = || get(ready, path).is_some_and(|(status, _)| status == 200);
        Self::start_until(command, address, ready, answers)
    }

    /// Starts `command` and waits until somebody listens on `address`.
    pub fn start_listening(command: Command, address: SocketAddr) -> anyhow::Result<Self> {
        Self::start_until(command, address, address, || TcpStream::connect(address).is_ok())
    }

    fn start_until(
        mut command: Command,
        address: SocketAddr,
        ops: SocketAddr,
        answers: impl Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let mut process = Self { child, address, ops };
        let begun = penstock_config::clock::now();
        while !answers() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            if begun.elapsed() > START {
                bail!("{command:?} did not answer within {START:?}");
            }
            std::thread::sleep(POLL);
        }
        Ok(process)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells about itself.
    pub fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// CPU time used so far by it and its children, in microseconds.
    pub fn cpu_micros(&self) -> anyhow::Result<u64> {
        let parent = self.child.id();
        let mut ticks = 0;
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Some(stat) = Stat::of(pid) else { continue };
            if pid == parent || stat.parent == parent {
                ticks += stat.ticks;
            }
        }
        Ok(ticks * 1_000_000 / TICKS_PER_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A plain TERM lets nginx end its workers; KILL is for who does not listen.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        std::thread::sleep(Duration::from_millis(200));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// USER_HZ: what /proc counts CPU time in. 100 on every Linux of the last decades.
const TICKS_PER_SECOND: u64 = 100;

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have blanks and brackets in it; the fields after it have neither.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self { parent: number(1)? as u32, ticks: number(11)? + number(12)? })
    }
}

/// GET: status and length of the body; `None` when there is no answer.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, usize)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            return Some((status, length));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
}

/// GET: the body as text; `None` when there is no answer.
pub fn get_text(address: SocketAddr, path: &str) -> Option<String> {
    use std::io::Read;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
