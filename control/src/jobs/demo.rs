//! `penstock-control demo`: a shop to try things with.

use super::{Bar, Common};
use indicatif::HumanCount;
use penstock_config::clock;
use penstock_engine::catalog::demo::DemoShop;
use penstock_engine::catalog::import::parse_micros;

/// Generates the demo shop into the data folder; the same seed and day give the same shop
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many products
    #[arg(long, default_value_t = 6000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    products: u32,
    /// How many events
    #[arg(long, default_value_t = 120_000)]
    events: u64,
    /// How many users
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    users: u32,
    /// Another seed, another shop
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The day on which the shop's history ends, e.g. 2026-05-01 (default: today)
    #[arg(long, value_name = "DAY", value_parser = day)]
    as_of: Option<i64>,
    /// Does nothing when there are products already
    #[arg(long)]
    if_empty: bool,
}

fn day(text: &str) -> Result<i64, String> {
    parse_micros(text).ok_or_else(|| "write it like 2026-05-01".into())
}

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let shop = DemoShop {
        products: options.products,
        events: options.events,
        users: options.users,
        seed: options.seed,
        ..DemoShop::on_day_of(options.as_of.unwrap_or_else(clock::unix_micros))
    };
    let store = common.store()?;
    let there = if options.if_empty { store.counts()?.products } else { 0 };
    if there > 0 {
        println!("{}: {} products are there already", store.place(), HumanCount(there));
        return Ok(());
    }
    let rows = u64::from(shop.products) + shop.events;
    let bar = Bar::new("demo shop", rows);
    let done = shop.generate(&*store, &|count| bar.set(count, count, "rows"))?;
    bar.finish(&format!(
        "{} products, {} events of {} users",
        HumanCount(u64::from(shop.products)),
        HumanCount(shop.events),
        HumanCount(u64::from(shop.users)),
    ));
    println!(
        "products: {} added, {} updated, {} unchanged; events: {} added, {} already there",
        HumanCount(done.products_added),
        HumanCount(done.products_updated),
        HumanCount(done.products_unchanged),
        HumanCount(done.events_added),
        HumanCount(done.events_known),
    );
    println!("{}: catalogue revision {}", store.place(), store.catalog_revision()?);
    Ok(())
}
