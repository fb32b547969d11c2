//! How long a change of one product takes to be in force, and what an overlay costs searches, on a demo shop of
//! `PENSTOCK_BENCH_CHANGES` products. `PENSTOCK_BENCH_INDEX=no` leaves the index out: a million products are a
//! catalogue in a minute and an index in an hour.

use hdrhistogram::Histogram;
use penstock_config::clock;
use penstock_config::policy::Policy;
use penstock_engine::catalog::Product;
use penstock_engine::catalog::demo::DemoShop;
use penstock_engine::serve::{Engine, Options, SearchAsk};
use penstock_engine::store::{Bulk, ProductChange, ProductPatch, SqliteStore};
use penstock_engine::train::index::{BuildOptions, build};
use std::sync::Arc;
use std::time::Duration;

/// Changes of one product each that are measured.
const CHANGES: usize = 40;
/// Searches measured with an overlay of each size.
const SEARCHES: usize = 600;
/// What is looked for: words of the demo shop.
const QUERIES: [&str; 6] =
    ["desk lamp", "oak table", "red chair", "sofa", "kitchen shelf", "wool rug grey"];

fn main() -> anyhow::Result<()> {
    let Some(products) = std::env::var("PENSTOCK_BENCH_CHANGES").ok().and_then(|n| n.parse().ok())
    else {
        println!("skipped: needs PENSTOCK_BENCH_CHANGES, the number of products");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let store = Arc::new(SqliteStore::in_folder(folder.path(), clock::system())?);
    let shop = DemoShop { products, events: 100_000, ..DemoShop::on_day_of(0) };
    shop.generate(&*store, &|_| {})?;
    if std::env::var("PENSTOCK_BENCH_INDEX").as_deref() != Ok("no") {
        let begun = clock::now();
        build(&*store, &BuildOptions::new(folder.path()), &|_, _, _| {})?;
        println!("index built in {:?}", begun.elapsed());
    }
    let options = Options {
        data_dir: folder.path().to_owned(),
        embedding_model: None,
        workers: 2,
        clock: clock::system(),
        caches: None,
    };
    let policy = Arc::new(Policy::default());
    let begun = clock::now();
    let engine = Engine::with_store(options, store.clone(), policy.clone())?;
    println!("{products} products, opened in {:?}", begun.elapsed());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut ids = Vec::new();
    store.scan_products(&mut |stored| ids.push(stored.product.id))?;

    let priced = |n: usize| {
        let id = ids[(n * 7_919) % ids.len()].clone();
        ProductChange::Patch(ProductPatch { id, price: Some(Some(n as f64)), ..Default::default() })
    };
    in_force("a price", &engine, &store, priced)?;
    in_force("a new product", &engine, &store, |n| ProductChange::Put(new(n, "alone")))?;
    in_force("a deletion", &engine, &store, |n| ProductChange::Delete(format!("alone-{n}")))?;

    let mut made = 0;
    for size in [0, 1_000, 5_000, 20_000] {
        // Others are added later, so that the size is met: 40 are gone above.
        while made < size {
            let some = made..size.min(made + 1_000);
            made = some.end;
            store.change_products(some.map(|n| ProductChange::Put(new(n, "many"))).collect())?;
            wait(&engine, store.catalog_revision()?);
        }
        let mut times = Histogram::<u64>::new(3)?;
        for n in 0..SEARCHES {
            let q = QUERIES[n % QUERIES.len()].to_owned();
            let ask = SearchAsk { q, k: 10, ..SearchAsk::default() };
            let begun = clock::now();
            runtime.block_on(engine.search(policy.clone(), ask))?;
            if n >= SEARCHES / 6 {
                times.record(begun.elapsed().as_micros() as u64)?;
            }
        }
        let status = engine.status();
        let at = |quantile| times.value_at_quantile(quantile);
        println!(
            "overlay {:?}, mode {:?}: search p50 {} µs, p99 {} µs",
            status.overlay,
            status.mode,
            at(0.5),
            at(0.99)
        );
    }
    Ok(())
}

fn new(n: usize, word: &str) -> Product {
    let kind = ["desk lamp", "oak table", "wool rug", "kitchen shelf"][n % 4];
    Product {
        id: format!("{word}-{n}"),
        name: format!("{word} {kind} {n}"),
        description: format!("A {kind} for every room, number {n}, in grey, red and oak"),
        category: "Home > New".into(),
        brand: format!("Brand{}", n % 50),
        price: Some(10.0),
        ..Product::default()
    }
}

/// From the moment a change is stored to the moment it is in force.
fn in_force(
    what: &str,
    engine: &Engine,
    store: &SqliteStore,
    change: impl Fn(usize) -> ProductChange,
) -> anyhow::Result<()> {
    let mut times = Histogram::<u64>::new(3)?;
    for n in 0..CHANGES {
        store.change_products(vec![change(n)])?;
        let begun = clock::now();
        wait(engine, store.catalog_revision()?);
        times.record(begun.elapsed().as_micros() as u64)?;
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{what}: in force after p50 {} ms, max {} ms (up to 250 ms are waiting for the look)",
        at(0.5),
        at(1.0)
    );
    Ok(())
}

fn wait(engine: &Engine, revision: u64) {
    while engine.status().catalog_revision < revision {
        std::thread::sleep(Duration::from_millis(1));
    }
}
