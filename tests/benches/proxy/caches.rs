//! What is remembered, and how much is done when there is too much: hit rates of a Zipf stream, latency by tier, a
//! change of weights under load, three times the load that can be answered in full, memory under a key space far
//! larger than it.

use crate::client::{Answer, Client, percentile, shares};
use crate::process::{Process, get_text};
use crate::workload::{Workload, windows, zipf};
use crate::{SEED, SHADOWS, start};
use anyhow::Context;
use penstock_config::clock;
use penstock_tests::urlencode;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests of the stream, over so many different queries at most.
const STREAM: usize = 100_000;
const DISTINCT: usize = 50_000;
/// Queries whose answers are looked for in Redis.
const SHARED: usize = 2_000;
/// Queries of the load under which weights change.
const HOT: usize = 500;
/// Connections of the overload; each waits for its turn.
const OVERLOADING: usize = 256;
/// How often what can be done in full is offered.
const TIMES: f64 = 3.0;

/// All of it, as Markdown.
pub fn bench(data: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let workload = Workload::read(data, SEED)?;
    let queries: Vec<String> = windows(data, DISTINCT, SEED)?
        .into_iter()
        .map(|query| format!("/search?q={}", urlencode(&query)))
        .collect();
    println!("\n## What is remembered\n");
    println!("{} products, {} different queries.\n", workload.products, queries.len());
    stream(data, scratch, &queries)?;
    shared(data, scratch, &queries)?;
    weights(data, scratch, &queries[..HOT.min(queries.len())], seconds)?;
    overload(data, scratch, &queries, seconds)
}

fn proxy(
    data: &Path,
    scratch: &Path,
    name: &str,
    files: &[(&str, &str)],
    redis: Option<&str>,
) -> anyhow::Result<Process> {
    let policy = scratch.join(name);
    std::fs::create_dir_all(&policy)?;
    std::fs::write(policy.join("limits.toml"), SHADOWS)?;
    for (file, text) in files {
        std::fs::write(policy.join(file), text)?;
    }
    start(data, &policy, None, redis)
}

/// Asks for `paths` over `connections`, each client another address.
fn ask(server: &Process, paths: &[&str], connections: usize) -> anyhow::Result<Vec<Answer>> {
    let next = AtomicUsize::new(0);
    let all = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|n| {
                let next = &next;
                scope.spawn(move || -> anyhow::Result<Vec<Answer>> {
                    let mut client = Client::connect(server.address(), &format!("198.51.100.{n}"))?;
                    let mut answers = Vec::new();
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        answers.push(client.get(path)?);
                    }
                    Ok(answers)
                })
            })
            .collect();
        let joined = clients.into_iter().map(|client| client.join().expect("a client panicked"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    Ok(all.into_iter().flatten().collect())
}

/// From the first request of a cold process on.
fn stream(data: &Path, scratch: &Path, queries: &[String]) -> anyhow::Result<()> {
    let server = proxy(data, scratch, "stream", &[], None)?;
    let answers = ask(&server, &zipf(queries, STREAM, SEED), 4)?;
    let outcomes = shares(&answers, |answer| &answer.cache);
    let hits = outcomes.get("hit-l1").copied().unwrap_or_default();
    println!("### A Zipf stream\n");
    println!(
        "{STREAM} searches over four connections, drawn with weight 1/rank, from a cold start. \
         **{:.1} %** were remembered.\n",
        100.0 * hits as f64 / answers.len() as f64
    );
    println!("| `X-Cache` | answers | p50 µs | p99 µs |\n|---|---:|---:|---:|");
    for (outcome, count) in &outcomes {
        let of = || answers.iter().filter(|answer| answer.cache == *outcome);
        let (p50, p99) = (percentile(of(), 50), percentile(of(), 99));
        println!("| {outcome} | {count} | {p50:.0} | {p99:.0} |");
    }
    println!("\n| layer | hits | misses | hit rate |\n|---|---:|---:|---:|");
    let metrics = get_text(server.ops(), "/metrics").context("no metrics")?;
    for kind in ["results", "candidates"] {
        let of = |name: &str| {
            let line = format!("{name}{{cache_layer=\"l1\",cache_type=\"{kind}\"}} ");
            let value = metrics.lines().find_map(|text| text.strip_prefix(&line));
            value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
        };
        let (hits, misses) = (of("cache_hits_total"), of("cache_misses_total"));
        let rate = 100.0 * hits / (hits + misses).max(1.0);
        println!("| {kind} | {hits} | {misses} | {rate:.1} % |");
    }
    println!();
    Ok(())
}

/// One at a time: from memory, and from Redis by an instance that just started.
fn shared(data: &Path, scratch: &Path, queries: &[String]) -> anyhow::Result<()> {
    let Some((redis, url)) = crate::redis(scratch)? else {
        eprintln!("redis-server is not installed: Redis is not measured");
        return Ok(());
    };
    let paths: Vec<&str> = queries.iter().take(SHARED).map(String::as_str).collect();
    let quiet = [("cache.toml", "[warming]\nenabled = false\n")];
    let one = proxy(data, scratch, "one", &quiet, Some(&url))?;
    // Until it hears of changes it leaves Redis alone.
    std::thread::sleep(Duration::from_secs(2));
    ask(&one, &paths, 4)?;
    std::thread::sleep(Duration::from_secs(1));
    let memory = ask(&one, &paths, 1)?;
    drop(one);
    let two = proxy(data, scratch, "two", &quiet, Some(&url))?;
    std::thread::sleep(Duration::from_secs(2));
    let other = ask(&two, &paths, 1)?;
    println!("### A hit, one at a time\n\n| | hits | p50 µs | p99 µs |\n|---|---:|---:|---:|");
    for (name, outcome, answers) in
        [("memory of the process", "hit-l1", &memory), ("Redis on the loopback", "hit-l2", &other)]
    {
        let of = || answers.iter().filter(|answer| answer.cache == outcome);
        let (count, p50, p99) = (of().count(), percentile(of(), 50), percentile(of(), 99));
        println!("| {name} | {count} of {} | {p50:.0} | {p99:.0} |", answers.len());
    }
    println!();
    drop((two, redis));
    Ok(())
}

/// The slowest answers before and after a change of weights under load.
fn weights(data: &Path, scratch: &Path, queries: &[String], seconds: u64) -> anyhow::Result<()> {
    let server = proxy(data, scratch, "weights", &[], None)?;
    let stream = zipf(queries, STREAM, SEED);
    let ended = AtomicBool::new(false);
    let time = Duration::from_secs(seconds.max(3));
    let (answers, changed) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let (server, stream, ended) = (&server, &stream, &ended);
                scope.spawn(move || -> anyhow::Result<Vec<Answer>> {
                    let mut client = Client::connect(server.address(), &format!("198.51.100.{n}"))?;
                    let mut answers = Vec::new();
                    for path in stream.iter().cycle().skip(n * 1_000) {
                        if ended.load(Ordering::Relaxed) {
                            break;
                        }
                        answers.push(client.get(path)?);
                        // A steady load, not all there is.
                        std::thread::sleep(Duration::from_micros(500));
                    }
                    Ok(answers)
                })
            })
            .collect();
        std::thread::sleep(time);
        let policy = scratch.join("weights");
        let text = "[weights]\nsearch = 0.4\ncf = 0.3\npopularity = 0.1\nfreshness = 0.2\n";
        std::fs::write(policy.join(".new"), text)?;
        std::fs::rename(policy.join(".new"), policy.join("ranking.toml"))?;
        let changed = clock::now();
        std::thread::sleep(time);
        ended.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.join().expect("a client panicked")?);
        }
        Ok((answers, changed))
    })?;
    println!("### A change of weights under load\n");
    println!(
        "{} queries, four connections that pause half a millisecond; the second before the change and the one \
         after it.\n",
        queries.len()
    );
    println!("| | answers | remembered | p50 µs | p99 µs |\n|---|---:|---:|---:|---:|");
    let second = Duration::from_secs(1);
    let before = |at: Instant| at < changed && changed.duration_since(at) < second;
    let after = |at: Instant| at >= changed && at.duration_since(changed) < second;
    let parts: [(&str, &dyn Fn(Instant) -> bool); 2] = [("before", &before), ("after", &after)];
    for (name, is_within) in parts {
        let within: Vec<&Answer> = answers.iter().filter(|answer| is_within(answer.at)).collect();
        let hits = within.iter().filter(|answer| answer.cache == "hit-l1").count();
        println!(
            "| {name} | {} | {hits} | {:.0} | {:.0} |",
            within.len(),
            percentile(within.iter().copied(), 50),
            percentile(within.iter().copied(), 99)
        );
    }
    let metrics = get_text(server.ops(), "/metrics").context("no metrics")?;
    let kept = metrics.lines().find(|line| {
        line.starts_with("cache_hits_total{cache_layer=\"l1\",cache_type=\"candidates\"}")
    });
    let kept = kept.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    println!("\n{kept} answers were ordered anew from candidates that were remembered.\n");
    Ok(())
}

/// Three times what can be done in full, each query another one.
fn overload(data: &Path, scratch: &Path, queries: &[String], seconds: u64) -> anyhow::Result<()> {
    let off = ("cache.toml", "enabled = false\n");
    let whole = proxy(data, scratch, "whole", &[off, ("resilience.toml", crate::WHOLE)], None)?;
    let paths: Vec<&str> = queries.iter().map(String::as_str).collect();
    let begun = clock::now();
    let some = &paths[..paths.len().min(10_000)];
    let asked = ask(&whole, some, 16)?.len();
    let capacity = asked as f64 / begun.elapsed().as_secs_f64();
    drop(whole);
    let server = proxy(data, scratch, "overload", &[off], None)?;
    let rate = capacity * TIMES;
    let time = Duration::from_secs(seconds.max(4) * 2);
    let total = (rate * time.as_secs_f64()) as usize;
    let next = AtomicUsize::new(0);
    let begun = clock::now();
    let answers: Vec<Answer> = std::thread::scope(|scope| -> anyhow::Result<_> {
        let clients: Vec<_> = (0..OVERLOADING)
            .map(|n| {
                let (server, paths, next) = (&server, &paths, &next);
                scope.spawn(move || -> anyhow::Result<Vec<Answer>> {
                    let who = format!("198.51.100.{n}");
                    let mut client = Client::connect(server.address(), &who)?;
                    let mut answers = Vec::new();
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        if turn >= total {
                            return Ok(answers);
                        }
                        let due = begun + Duration::from_secs_f64(turn as f64 / rate);
                        std::thread::sleep(due.saturating_duration_since(clock::now()));
                        answers.push(client.get_due(paths[turn % paths.len()], due)?);
                    }
                })
            })
            .collect();
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.join().expect("a client panicked")?);
        }
        Ok(answers)
    })?;
    let (ended, took) = (clock::now(), begun.elapsed());
    let mut client = Client::connect(server.address(), "198.51.100.200")?;
    let mut row = 0;
    while row < 10 && ended.elapsed() < Duration::from_secs(30) {
        let path = format!("{}+{}", paths[0], ended.elapsed().as_micros());
        row = if client.get(&path)?.mode == "full" { row + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("### Three times what can be answered in full\n");
    println!(
        "Without the ladder {capacity:.0} searches a second are answered in full (16 connections). {rate:.0} a \
         second were offered for {:.0} s over {OVERLOADING} connections (times run from when each was due), \
         {:.0} a second answered. Ten in a row were full again {:.1} s after the end.\n",
        time.as_secs_f64(),
        answers.len() as f64 / took.as_secs_f64(),
        ended.elapsed().as_secs_f64(),
    );
    println!("| | answers | p50 µs | p99 µs |\n|---|---:|---:|---:|");
    for (mode, count) in shares(&answers, |answer| &answer.mode) {
        let of = || answers.iter().filter(|answer| answer.mode == mode);
        let name = if mode.is_empty() { "refused" } else { &mode };
        println!(
            "| {name} | {count} | {:.0} | {:.0} |",
            percentile(of(), 50),
            percentile(of(), 99)
        );
    }
    let failed = answers.iter().filter(|answer| answer.status >= 500).count();
    println!(
        "| all | {} | {:.0} | {:.0} |",
        answers.len(),
        percentile(&answers, 50),
        percentile(&answers, 99)
    );
    println!("\n{failed} answers of the class 5xx.\n");
    Ok(())
}

/// Keys without end, for so many seconds.
pub fn soak(data: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let small = "[results]\nmemory = \"8MiB\"\n[candidates]\nmemory = \"8MiB\"\n";
    let server = proxy(data, scratch, "soak", &[("cache.toml", small)], None)?;
    let ended = AtomicBool::new(false);
    let (mut most, mut resident, mut asked) = (0_u64, Vec::new(), 0);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let (server, ended) = (&server, &ended);
                scope.spawn(move || -> anyhow::Result<usize> {
                    let who = format!("198.51.100.{n}");
                    let mut client = Client::connect(server.address(), &who)?;
                    let mut count = 0;
                    while !ended.load(Ordering::Relaxed) {
                        let k = 10 + count % 90;
                        client.get(&format!("/search?q=lamp+{n}+{count}&k={k}"))?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            let metrics = get_text(server.ops(), "/metrics").context("no metrics")?;
            for kind in ["results", "candidates"] {
                let line = format!("cache_bytes{{cache_layer=\"l1\",cache_type=\"{kind}\"}} ");
                let bytes = metrics.lines().find_map(|text| text.strip_prefix(&line));
                most = most.max(bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or_default());
            }
            resident.push(server.resident_kib()?);
        }
        ended.store(true, Ordering::Relaxed);
        for client in clients {
            asked += client.join().expect("a client panicked")?;
        }
        Ok(())
    })?;
    let third = resident.len() / 3;
    let middle = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or_default() / 1_024
    };
    println!("### Keys without end\n");
    println!(
        "{asked} searches in {seconds} s, each another key; layers of 8 MiB held {:.2} MiB at most. Resident memory \
         of the process: {} MiB in the first third, {} MiB in the last.\n",
        most as f64 / f64::from(1 << 20),
        middle(&resident[..third.max(1)]),
        middle(&resident[resident.len() - third.max(1)..]),
    );
    Ok(())
}
