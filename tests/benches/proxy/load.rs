//! Load by wrk, on the loopback, for a bounded time.

use crate::process::Process;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Answers a second.
    pub per_second: f64,
    /// CPU time of the server per answer, in microseconds.
    pub cpu_micros: f64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// 99th percentile of latency in microseconds.
    pub p99: f64,
}

/// What is asked for, in turn, as a script for wrk.
pub struct Script(PathBuf);

impl Script {
    /// Writes a script that asks for `paths` one after the other, again and again.
    pub fn write(folder: &Path, name: &str, paths: &[String]) -> anyhow::Result<Self> {
        let mut script = String::from("local paths = {\n");
        for path in paths {
            writeln!(script, "  {path:?},")?;
        }
        script.push_str(
            "}\n\
             local at = 0\n\
             request = function()\n\
             \x20 at = at % #paths + 1\n\
             \x20 return wrk.format(\"GET\", paths[at])\n\
             end\n\
             done = function(summary, latency, requests)\n\
             \x20 local e = summary.errors\n\
             \x20 io.write(string.format(\"\\nround %d %d %d %d %d\\n\", summary.requests,\n\
             \x20   summary.duration, e.connect + e.read + e.write + e.status + e.timeout,\n\
             \x20   latency:percentile(50), latency:percentile(99)))\n\
             end\n",
        );
        let path = folder.join(format!("{name}.lua"));
        std::fs::write(&path, script)?;
        Ok(Self(path))
    }
}

/// One round of load on `server`. A failed request fails the bench: a fast error is no figure.
pub fn round(
    server: &Process,
    script: &Script,
    connections: usize,
    seconds: u64,
) -> anyhow::Result<Round> {
    let before = server.cpu_micros()?;
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{seconds}s"),
            "--timeout",
            "10s",
            "-s",
        ])
        .arg(&script.0)
        .arg(format!("http://{}", server.address()))
        .output()
        .context("wrk: is it installed? (scripts/ensure bench)")?;
    let cpu = server.cpu_micros()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text
        .lines()
        .find_map(|line| line.strip_prefix("round "))
        .with_context(|| format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)))?
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [requests, micros, errors, p50, p99] = figures[..] else {
        bail!("wrk said: {text}");
    };
    if errors > 0.0 || requests < 1.0 {
        bail!("{errors} of {requests} requests failed: {text}");
    }
    Ok(Round { per_second: requests / (micros / 1e6), cpu_micros: cpu as f64 / requests, p50, p99 })
}

/// The median of each figure.
pub fn median(rounds: &[Round]) -> Round {
    let of = |figure: fn(&Round) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Round {
        per_second: of(|round| round.per_second),
        cpu_micros: of(|round| round.cpu_micros),
        p50: of(|round| round.p50),
        p99: of(|round| round.p99),
    }
}
