//! The pool under many callers, features read in several ways, and every query at size.

use super::number;
use super::spread::Spread;
use futures_util::future::join_all;
use penstock_config::bootstrap::{Bootstrap, Database};
use penstock_config::clock;
use penstock_engine::catalog::{Event, EventKind};
use penstock_engine::store::postgres::{FellBack, Observe, PostgresStore, migrate};
use penstock_engine::store::{Bulk, ProductChange, ProductPatch, Store};
use penstock_tests::PgServer;
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Callers at once.
const CALLERS: usize = 500;
/// Products of which a request wants fields.
const CANDIDATES: usize = 100;
/// Of each query.
const QUERIES: usize = 2_000;

/// Keeps every duration.
#[derive(Default)]
struct Watch {
    waits: Mutex<Spread>,
    refused: Mutex<u64>,
    queries: Mutex<BTreeMap<&'static str, Spread>>,
}

impl Observe for Watch {
    fn queried(&self, query: &'static str, took: Duration) {
        self.queries.lock().expect("nobody panics").entry(query).or_default().0.push(took);
    }
    fn slow(&self, _: &'static str) {}
    fn waited(&self, took: Duration) {
        self.waits.lock().expect("nobody panics").0.push(took);
    }
    fn refused(&self) {
        *self.refused.lock().expect("nobody panics") += 1;
    }
    fn fell_back(&self, _: FellBack) {}
    fn retried(&self, _: &'static str) {}
}

pub async fn bench() -> anyhow::Result<()> {
    let products = number("PENSTOCK_BENCH_PRODUCTS", 1_000_000)?;
    let events = number("PENSTOCK_BENCH_EVENTS", 10_000_000)?;
    let server =
        PgServer::setup().relaxed().settings(&[("shared_buffers", "1GB"), ("max_wal_size", "4GB")]);
    let server = server.start().await;
    let settings = settings(&server);
    migrate(&settings, "bench").await?;
    let began = clock::now();
    fill(&server, products, events).await;
    let took = (clock::now() - began).as_secs_f64();
    eprintln!("{products} products and {events} events made in {took:.0} s");
    let watch = Arc::new(Watch::default());
    let store = PostgresStore::open(settings, "bench", None, clock::system(), watch.clone())?;
    let store = Arc::new(store);
    println!("## Database\n\n{products} products, {events} events of {} users.\n", users(events));
    pool(&store, &watch, products).await?;
    features(&store, products).await?;
    each_query(&store, &watch, products, events).await
}

fn users(events: u64) -> u64 {
    (events / 100).max(1)
}

fn settings(server: &PgServer) -> Database {
    let url = server.url("penstock");
    let env = |name: &str| (name == "PENSTOCK_DATABASE_URL").then(|| url.clone());
    let settings = Bootstrap::parse("penstock.toml", b"", &env).expect("settings");
    settings.database.expect("a database")
}

async fn fill(server: &PgServer, products: u64, events: u64) {
    let users = users(events);
    server
        .sql(&format!(
            "SET penstock.bulk = 'on';
             INSERT INTO penstock.products (product_id, name, description, category, brand, price, created_at)
                 SELECT 'p' || n, 'Product ' || n, repeat('what it is ', 20), 'Category ' || n % 500, 'Brand ' || n % 900,
                     n % 90, now() FROM generate_series(1, {products}) n;
             INSERT INTO penstock.event_ids SELECT 'e' || n, now() - n * interval '1 second' / 4
                 FROM generate_series(1, {events}) n;
             INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\")
                 SELECT 'e' || n, 'u' || (n * 7919::bigint) % {users}, 'p' || (n * 104729::bigint) % {products} + 1,
                     'view', now() - n * interval '1 second' / 4 FROM generate_series(1, {events}) n;
             ANALYZE"
        ))
        .await;
    server.sql("VACUUM").await;
}

fn id(products: u64) -> String {
    format!("p{}", rand::rng().random_range(1..=products))
}

fn ids(products: u64, count: usize) -> Vec<String> {
    (0..count).map(|_| id(products)).collect()
}

async fn pool(store: &Arc<PostgresStore>, watch: &Watch, products: u64) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(number("PENSTOCK_BENCH_SECONDS", 4)?);
    // Connections are made once.
    join_all((0..CALLERS).map(|_| store.products(ids(products, 10)))).await;
    *watch.waits.lock().expect("nobody panics") = Spread::default();
    let end = clock::now() + seconds;
    let callers = (0..CALLERS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut reads, mut failed) = (0_u64, 0_u64);
            while clock::now() < end {
                reads += 1;
                failed += u64::from(store.products(ids(products, 10)).await.is_err());
            }
            (reads, failed)
        })
    });
    let (mut reads, mut failed) = (0, 0);
    for caller in join_all(callers).await {
        let (one, of_them) = caller?;
        (reads, failed) = (reads + one, failed + of_them);
    }
    let mut waits = watch.waits.lock().expect("nobody panics").clone();
    let refused = *watch.refused.lock().expect("nobody panics");
    println!("### Pool\n\n{CALLERS} callers at once, 30 connections, 10 products a read.\n");
    println!(
        "| reads a second | wait p50 | wait p95 | wait p99 | failed | refused |\n|---:|---:|---:|---:|---:|---:|"
    );
    println!(
        "| {:.0} | {:.1} ms | {:.1} ms | {:.1} ms | {failed} | {refused} |\n",
        reads as f64 / seconds.as_secs_f64(),
        waits.millis(0.5),
        waits.millis(0.95),
        waits.millis(0.99)
    );
    Ok(())
}

async fn features(store: &Arc<PostgresStore>, products: u64) -> anyhow::Result<()> {
    let (mut one_by_one, mut at_once, mut batch) =
        (Spread::default(), Spread::default(), Spread::default());
    for _ in 0..50 {
        let wanted = ids(products, CANDIDATES);
        let began = clock::now();
        for id in &wanted {
            store.products(vec![id.clone()]).await?;
        }
        one_by_one.0.push(clock::now() - began);
        let began = clock::now();
        for read in join_all(wanted.iter().map(|id| store.products(vec![id.clone()]))).await {
            read?;
        }
        at_once.0.push(clock::now() - began);
        let began = clock::now();
        store.products(wanted).await?;
        batch.0.push(clock::now() - began);
    }
    println!("### Features of {CANDIDATES} products\n");
    println!("| how | p50 | p95 | times faster |\n|---|---:|---:|---:|");
    let slowest = one_by_one.millis(0.5);
    for (name, spread) in [
        ("one query after the other", &mut one_by_one),
        ("one query each, all at once", &mut at_once),
        ("one query for all, as Penstock does it", &mut batch),
    ] {
        let (p50, p95) = (spread.millis(0.5), spread.millis(0.95));
        println!("| {name} | {p50:.2} ms | {p95:.2} ms | {:.1} |", slowest / p50);
    }
    println!();
    Ok(())
}

async fn each_query(
    store: &Arc<PostgresStore>,
    watch: &Watch,
    products: u64,
    events: u64,
) -> anyhow::Result<()> {
    watch.queries.lock().expect("nobody panics").clear();
    let users = users(events);
    let revision = store.catalog_revision()?;
    for round in 0..QUERIES {
        let user = format!("u{}", rand::rng().random_range(0..users));
        store.recent_events(user.clone(), 50).await?;
        store.products(ids(products, 20)).await?;
        if round % 10 == 0 {
            let event = |n: usize| Event {
                event_id: format!("bench-{round}-{n}"),
                user_id: user.clone(),
                product_id: id(products),
                kind: EventKind::View,
                at_micros: clock::unix_micros(),
                source: String::new(),
            };
            store.append_events((0..100).map(event).collect()).await?;
            let patch = ProductPatch {
                id: id(products),
                price: Some(Some(1.0 + round as f64)),
                ..ProductPatch::default()
            };
            store.change_products(vec![ProductChange::Patch(patch)])?;
            store.changes_since(revision, 20_000)?;
            store.catalog_revision()?;
        }
    }
    println!("### Queries, one at a time\n");
    println!("| query | calls | p50 | p95 | p99 |\n|---|---:|---:|---:|---:|");
    for (query, mut spread) in watch.queries.lock().expect("nobody panics").clone() {
        let calls = spread.0.len();
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| spread.millis(share));
        println!("| {query} | {calls} | {p50:.2} ms | {p95:.2} ms | {p99:.2} ms |");
    }
    println!();
    Ok(())
}
