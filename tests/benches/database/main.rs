//! The data layer: acknowledged events a second against the disk's own limit, the pool under many callers, features
//! read one by one and together, every query at a million products and ten million events. As Markdown on stdout.
//!
//! `PENSTOCK_BENCH_PRODUCTS` and `PENSTOCK_BENCH_EVENTS` make the tables smaller, `PENSTOCK_BENCH_SECONDS` the rounds.

mod events;
mod queries;
mod spread;

use penstock_tests::postgres::installed;

fn main() -> anyhow::Result<()> {
    if !installed() {
        println!("skipped: there is no PostgreSQL here");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        events::bench().await?;
        queries::bench().await
    })
}

/// A whole number from the environment.
fn number(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(otherwise),
    }
}
