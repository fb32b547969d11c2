//! Requests a second and CPU per request through the proxy, as ratios to a bare Pingora answer on
//! the same machine in the same minutes. `make bench` prepares what it needs.
//!
//! Everything that is compared takes turns, round by round, so that a machine that is busy for a
//! while is busy for all of them. Two kinds of load: saturating (requests a second, CPU per request)
//! and one request at a time (latency).

mod bare;
mod caches;
mod client;
mod flood;
mod load;
mod process;
#[path = "../../../engine/benches/workload/mod.rs"]
mod workload;

use anyhow::{Context, bail};
use load::{Round, Script, median, round};
use penstock_tests::{binaries, penstock::free_address, urlencode};
use process::{Process, get};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use workload::{Workload, zipf};

/// Connections of the saturating load.
const MANY: usize = 32;
/// Requests in a script; wrk starts again after the last.
const PATHS: usize = 10_000;
/// The same requests in every run.
const SEED: u64 = 20_260_725;
/// A path that is not ours, so that it goes through.
const THROUGH: &str = "/account/orders?page=2";
/// One that is kept, by us and by nginx.
const KEPT: &str = "/assets/page";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--answer", address, bytes] => {
            bare::serve(address.parse()?, bare::Work::Answer(bytes.parse()?))
        }
        ["--pass", address, upstream] => {
            bare::serve(address.parse()?, bare::Work::Pass(upstream.parse()?))
        }
        _ => bench(),
    }
}

/// A server, what is asked of it, and what the rounds measured.
struct Contender<'a> {
    name: &'static str,
    server: &'a Process,
    script: &'a Script,
    saturated: Vec<Round>,
    alone: Vec<Round>,
}

fn bench() -> anyhow::Result<()> {
    let Ok(data) = std::env::var("PENSTOCK_BENCH_DATA") else {
        println!("skipped: needs PENSTOCK_BENCH_DATA; `make bench` prepares it");
        return Ok(());
    };
    let folders: Vec<PathBuf> = data.split(':').map(PathBuf::from).collect();
    // The first has users; the last is the largest.
    let [data, .., largest] = &folders[..] else {
        return bench_of(&folders[0], &folders[0]);
    };
    bench_of(data, largest)
}

fn bench_of(data: &Path, largest: &Path) -> anyhow::Result<()> {
    let rounds = number("PENSTOCK_BENCH_ROUNDS", 5)?;
    let seconds = number("PENSTOCK_BENCH_SECONDS", 4)?;
    let soak = number("PENSTOCK_BENCH_SOAK", 0)?;
    let scratch = tempfile::tempdir()?;
    if soak > 0 {
        return caches::soak(largest, scratch.path(), soak);
    }

    let workload = Workload::read(data, SEED)?;
    if workload.users.is_empty() || workload.queries.is_empty() {
        bail!("{}: no users or no products to ask about", data.display());
    }
    let script = |name: &str, paths: Vec<String>| Script::write(scratch.path(), name, &paths);
    let search: Vec<String> = zipf(&workload.queries, PATHS, SEED)
        .into_iter()
        .map(|query| format!("/search?q={}", urlencode(query)))
        .collect();
    let typical = search[0].clone();
    // Whoever asks the same query all the time abuses; the number makes it another one.
    let polite: Vec<String> = (0..PATHS).map(|n| format!("{}+{n}", search[n])).collect();
    let search = script("search", search)?;
    let recommend = zipf(&workload.users, PATHS, SEED)
        .into_iter()
        .map(|user| format!("/recommend/{}", urlencode(user)))
        .collect();
    let recommend = script("recommend", recommend)?;
    let health = script("health", vec!["/health".to_owned()])?;
    let through = script("through", vec![THROUGH.to_owned()])?;
    let kept = script("kept", vec![KEPT.to_owned()])?;

    // The upstream answers with as many bytes as a search does, and so does the bare server.
    let first = penstock(data, scratch.path(), None)?;
    let (_, bytes) = get(first.address(), &typical).context("no answer to a search")?;
    drop(first);
    let bare = own(&["--answer", "{}", &bytes.to_string()])?;
    let pass = own(&["--pass", "{}", &bare.address().to_string()])?;
    let penstock = penstock(data, scratch.path(), Some(bare.address()))?;
    let remembering = remembering(data, scratch.path(), bare.address())?;
    let nginx = nginx(scratch.path(), bare.address())?;

    let contender = |name, server, script| Contender {
        name,
        server,
        script,
        saturated: Vec::new(),
        alone: Vec::new(),
    };
    let mut contenders = vec![
        contender("bare Pingora, constant answer", &bare, &health),
        contender("Penstock `/health`", &penstock, &health),
        contender("Penstock `/search`, computed", &penstock, &search),
        contender("Penstock `/recommend`, computed", &penstock, &recommend),
        contender("Penstock `/search`, remembered", &remembering, &search),
        contender("Penstock `/recommend`, remembered", &remembering, &recommend),
        contender("bare Pingora, pass-through", &pass, &through),
        contender("Penstock, pass-through", &penstock, &through),
        contender("Penstock, page that is kept", &remembering, &kept),
    ];
    match &nginx {
        Some(nginx) => {
            contenders.push(contender("nginx, pass-through", nginx, &through));
            contenders.push(contender("nginx `proxy_cache`", nginx, &kept));
        }
        None => eprintln!("nginx is not installed (Debian: nginx-light): measured without it"),
    }
    for contender in &mut contenders {
        round(contender.server, contender.script, MANY, 1)?;
    }
    for number in 1..=rounds {
        eprintln!("round {number} of {rounds}, {} contenders", contenders.len());
        for contender in &mut contenders {
            let (server, script) = (contender.server, contender.script);
            contender.saturated.push(round(server, script, MANY, seconds)?);
            contender.alone.push(round(server, script, 1, seconds.div_ceil(2))?);
        }
    }
    print(&contenders, rounds, seconds, bytes, workload.products);
    drop(contenders);
    drop((penstock, remembering, pass, bare, nginx));
    flooded(data, scratch.path(), &polite, rounds, seconds)?;
    caches::bench(largest, scratch.path(), seconds)
}

/// A polite client by itself, and beside a client that asks as fast as it can, in turns.
fn flooded(
    data: &Path,
    scratch: &Path,
    paths: &[String],
    rounds: u64,
    seconds: u64,
) -> anyhow::Result<()> {
    let policy = scratch.join("limited");
    std::fs::create_dir_all(&policy)?;
    let key = flood::key(&policy)?;
    let server = start(data, &policy, None, None)?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(flood::round(&server, &key, paths, seconds, false)?);
        beside.push(flood::round(&server, &key, paths, seconds, true)?);
    }
    println!("\n## A flood beside a polite client\n");
    println!(
        "The default limits. A client with a key asks 100 searches a second, by itself and while \
         another one floods `/search` over 16 connections; medians of {rounds} rounds of {seconds} s \
         in turns. wrk, both clients and Penstock share the cores.\n"
    );
    println!("| | requests | failed | p50 µs | p99 µs |");
    println!("|---|---:|---:|---:|---:|");
    for (name, seen) in [("by itself", &alone), ("beside the flood", &beside)] {
        let median = |percent| {
            let mut all: Vec<f64> = seen.iter().map(|seen| seen.percentile(percent)).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "| {name} | {} | {} | {:.0} | {:.0} |",
            seen.iter().map(|seen| seen.took.len()).sum::<usize>(),
            seen.iter().map(|seen| seen.failed).sum::<usize>(),
            median(50),
            median(99),
        );
    }
    Ok(())
}

fn print(contenders: &[Contender<'_>], rounds: u64, seconds: u64, bytes: usize, products: u64) {
    let base = median(&contenders[0].saturated);
    println!("## Through the proxy\n");
    println!(
        "Medians of {rounds} rounds in turns; {MANY} connections for {seconds} s, then one for {} s; \
         {products} products; bodies of the bare server {bytes} bytes.\n",
        seconds.div_ceil(2)
    );
    println!("| | requests/s | of bare | CPU µs/request | × bare | p50 µs alone | p99 µs alone |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for contender in contenders {
        let many = median(&contender.saturated);
        let alone = median(&contender.alone);
        println!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.1} | {:.0} | {:.0} |",
            contender.name,
            many.per_second,
            many.per_second / base.per_second,
            many.cpu_micros,
            many.cpu_micros / base.cpu_micros,
            alone.p50,
            alone.p99,
        );
    }
}

fn number(variable: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

/// This program again, as a bare server; `{}` is its address.
fn own(args: &[&str]) -> anyhow::Result<Process> {
    let address = free_address();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args.iter().map(|arg| arg.replace("{}", &address.to_string())));
    Process::start(command, address, address, "/")
}

/// Nothing is left out because there is much to do: what is measured is the whole answer.
const WHOLE: &str = "[load]\nenabled = false\n";

const SHADOWS: &str = "\
[address]
search = { shadow = true }
recommend = { shadow = true }
passthrough = { enabled = true, shadow = true }
[abuse]
shadow = true
";

/// `penstock run` as a shop would run it, but for its log, which goes nowhere.
fn penstock(data: &Path, scratch: &Path, upstream: Option<SocketAddr>) -> anyhow::Result<Process> {
    // Counted as in a shop, and not refused.
    let policy = scratch.join("policy");
    std::fs::create_dir_all(&policy)?;
    std::fs::write(policy.join("limits.toml"), SHADOWS)?;
    std::fs::write(policy.join("cache.toml"), "enabled = false\n")?;
    std::fs::write(policy.join("resilience.toml"), WHOLE)?;
    start(data, &policy, upstream, None)
}

/// As [`penstock`], with the caches a shop has, and one path of the application whose pages are kept.
fn remembering(data: &Path, scratch: &Path, upstream: SocketAddr) -> anyhow::Result<Process> {
    let policy = scratch.join("remembering");
    std::fs::create_dir_all(&policy)?;
    std::fs::write(policy.join("limits.toml"), SHADOWS)?;
    let pages = "[pages.paths.assets]\npath = \"/assets/*\"\nttl = \"1h\"\n";
    std::fs::write(policy.join("cache.toml"), pages)?;
    start(data, &policy, Some(upstream), None)
}

/// As [`penstock`], with a policy folder.
fn start(
    data: &Path,
    policy: &Path,
    upstream: Option<SocketAddr>,
    redis: Option<&str>,
) -> anyhow::Result<Process> {
    let (address, ops) = (free_address(), free_address());
    let mut command = binaries::command("penstock", &["run"]);
    command
        .env("PENSTOCK_LISTEN", address.to_string())
        .env("PENSTOCK_OPS_LISTEN", ops.to_string())
        .env("PENSTOCK_DATA_DIR", data)
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .env("PENSTOCK_POLICY_DIR", policy);
    if let Some(upstream) = upstream {
        command.env("PENSTOCK_UPSTREAM", format!("http://{upstream}"));
    }
    if let Some(redis) = redis {
        command.env("PENSTOCK_REDIS_URL", redis);
    }
    Process::start(command, address, ops, "/readyz")
}

/// A Redis of the bench, with its URL; `None`: it is not installed.
fn redis(scratch: &Path) -> anyhow::Result<Option<(Process, String)>> {
    let installed = Command::new("redis-server").arg("--version").output().is_ok();
    if !installed {
        return Ok(None);
    }
    let address = free_address();
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.arg("--dir").arg(scratch);
    let process = Process::start_listening(command, address)?;
    Ok(Some((process, format!("redis://{address}"))))
}

/// nginx as a plain proxy with kept-alive connections, logging to nowhere as Penstock does.
fn nginx(scratch: &Path, upstream: SocketAddr) -> anyhow::Result<Option<Process>> {
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(program) = program else {
        return Ok(None);
    };
    let address = free_address();
    let here = scratch.display();
    let conf = scratch.join("nginx.conf");
    std::fs::write(
        &conf,
        format!(
            "worker_processes auto; daemon off; pid {here}/nginx.pid; error_log /dev/null;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             \x20 access_log /dev/null combined; keepalive_requests 100000000;\n\
             \x20 client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
             \x20 uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             \x20 upstream shop {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}\n\
             \x20 proxy_cache_path {here}/cache keys_zone=kept:16m inactive=1h;\n\
             \x20 proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             \x20 server {{ listen {address}; location / {{ proxy_pass http://shop; }}\n\
             \x20   location /assets/ {{ proxy_pass http://shop; proxy_cache kept; proxy_cache_valid 200 1h; }} }}\n\
             }}\n"
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-c").arg(&conf).arg("-p").arg(scratch);
    Process::start(command, address, address, "/").map(Some)
}
