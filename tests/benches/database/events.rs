//! Events a second that are acknowledged: on the local disk, then shipped.

use super::number;
use super::spread::Spread;
use anyhow::Context;
use penstock_config::clock;
use penstock_tests::wait::until_true;
use penstock_tests::{DatabaseShop, PgServer};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one event is on disk, about.
const BYTES: usize = 256;

pub async fn bench() -> anyhow::Result<()> {
    let seconds = Duration::from_secs(number("PENSTOCK_BENCH_SECONDS", 4)?);
    let server = PgServer::start().await;
    let shop = DatabaseShop::prepared(&[&server]);
    let proxy =
        shop.proxy().policy("limits.toml", "enabled = false\n").env("PENSTOCK_LOG", "error");
    let penstock = proxy.start().await;
    println!(
        "## Events\n\nAcknowledged when they are flushed to the local disk; PostgreSQL is on the same disk.\n"
    );
    println!("| who sends | acknowledged a second | p50 | p99 | of the disk's flushes a second |");
    println!("|---|---:|---:|---:|---:|");
    let mut disk = flushes(shop.shop.data(), seconds)?;
    let limit = disk.0.len() as f64 / seconds.as_secs_f64();
    row("the disk: 256 bytes and a flush, one after the other", limit, &mut disk, None);
    for (name, clients, batch) in [
        ("1 client, one event a request", 1, 1),
        ("64 clients, one event a request", 64, 1),
        ("64 clients, 100 events a request", 64, 100),
    ] {
        let (events, mut took) = send(&penstock.url("/events"), clients, batch, seconds).await?;
        row(name, events as f64 / seconds.as_secs_f64(), &mut took, Some(limit));
    }
    let began = clock::now();
    until_true("all is shipped", Duration::from_secs(600), async || {
        penstock.status().await["database"]["spool"]["waiting"] == 0
    })
    .await;
    let drained = (clock::now() - began).as_secs_f64();
    let stored = server.sql("SELECT count(*) FROM penstock.events").await;
    let stored = stored[0][0].clone();
    println!("\nAll {stored} were in PostgreSQL {drained:.1} s after the last was acknowledged.\n");
    Ok(())
}

fn row(name: &str, per_second: f64, took: &mut Spread, limit: Option<f64>) {
    let share = limit.map_or("1".to_owned(), |limit| format!("{:.2}", per_second / limit));
    let (p50, p99) = (took.millis(0.5), took.millis(0.99));
    println!("| {name} | {per_second:.0} | {p50:.2} ms | {p99:.2} ms | {share} |");
}

/// What the disk does with nobody in between.
fn flushes(folder: &std::path::Path, seconds: Duration) -> anyhow::Result<Spread> {
    let mut file = std::fs::File::create(folder.join("flushes"))?;
    let mut took = Spread::default();
    let end = clock::now() + seconds;
    while clock::now() < end {
        let began = clock::now();
        file.write_all(&[7; BYTES])?;
        file.sync_data()?;
        took.0.push(clock::now() - began);
    }
    Ok(took)
}

/// Events acknowledged, and how long each request took.
async fn send(
    url: &str,
    clients: usize,
    batch: usize,
    seconds: Duration,
) -> anyhow::Result<(u64, Spread)> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let end = clock::now() + seconds;
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (url, acknowledged) = (url.to_owned(), acknowledged.clone());
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                let mut took = Vec::new();
                while clock::now() < end {
                    let body: Vec<Value> = (0..batch)
                        .map(|n| {
                            json!({"user_id": format!("user-{client}"), "event_type": "view",
                            "product_id": format!("p-{}", n % 1_000)})
                        })
                        .collect();
                    let began = clock::now();
                    let status = http.post(&url).json(&body).send().await?.status();
                    took.push(clock::now() - began);
                    anyhow::ensure!(status == 202, "{status}");
                    acknowledged.fetch_add(batch as u64, Ordering::Relaxed);
                }
                Ok(took)
            })
        })
        .collect();
    let mut all = Spread::default();
    for task in tasks {
        all.0.extend(task.await.context("a client")??);
    }
    Ok((acknowledged.load(Ordering::Relaxed), all))
}
