//! `penstock-control products`: single products, while proxies serve.

use super::{Common, Usage};
use anyhow::Context;
use penstock_engine::catalog::Product;
use penstock_engine::catalog::import::single::{self, Wanted};
use penstock_engine::store::{Changed, ProductChange};
use serde_json::json;
use std::io::{Read, Write};
use std::path::PathBuf;

/// Changes of one call; more are an import.
const MOST: usize = 50_000;

/// Adds, changes, removes and shows single products: every proxy on this store has a change within a second, without
/// a new index
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Adds products, or makes them exactly so
    Put {
        /// A JSON object, an array of objects or JSON Lines [default: standard input]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Changes what is said of products that are there, and leaves the rest
    Patch {
        /// A JSON object, an array of objects or JSON Lines [default: standard input]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Removes products
    Delete {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Shows products
    Get {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

const AFTER_HELP: &str = "\
Fields: id, name, description, category (a path with ` > `, or a list of its parts), brand, price, created_at, \
popularity. In a patch, null takes a value away. Everything is checked before anything is changed, and all changes \
of a call come into force at once.

Exit code: 0, all done; 1, an id is unknown, or something is wrong with the input and nothing was changed; 2, the \
command makes no sense.";

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let changes = match options.command {
        Command::Put { file } => read(file, Wanted::Put)?,
        Command::Patch { file } => read(file, Wanted::Patch)?,
        Command::Delete { ids } => ids.into_iter().map(ProductChange::Delete).collect(),
        Command::Get { ids } => return get(common, ids, options.json),
    };
    if changes.len() > MOST {
        let why = format!("{} products at once: use penstock-control import", changes.len());
        return Err(Usage(why).into());
    }
    let store = common.store()?;
    let ids: Vec<String> = changes.iter().map(|change| change.id().to_owned()).collect();
    let done = store.change_products(changes)?;
    let revision = store.catalog_revision()?;
    // Not print: it panics when whoever reads has seen enough.
    let mut out = std::io::stdout().lock();
    if options.json {
        let products = ids.iter().zip(&done);
        let products = products.map(|(id, changed)| json!({ "id": id, "changed": changed }));
        let products: Vec<_> = products.collect();
        writeln!(out, "{}", json!({ "revision": revision, "products": products }))?;
    } else {
        tell(&mut out, &ids, &done, revision)?;
    }
    let unknown = done.iter().filter(|changed| **changed == Changed::Unknown).count();
    anyhow::ensure!(unknown == 0, "{unknown} of {} ids are unknown", ids.len());
    Ok(())
}

fn read(file: Option<PathBuf>, wanted: Wanted) -> anyhow::Result<Vec<ProductChange>> {
    let file = file.filter(|file| file.as_os_str() != "-");
    let name = file.as_ref().map_or("standard input".into(), |file| file.display().to_string());
    let mut text = String::new();
    match &file {
        Some(file) => std::fs::read_to_string(file).map(|read| text = read),
        None => std::io::stdin().lock().read_to_string(&mut text).map(|_| ()),
    }
    .with_context(|| format!("cannot read {name}"))?;
    single::changes(&text, wanted).map_err(|faults| {
        for fault in &faults {
            eprintln!("{name}:{}: {}", fault.line, fault.why);
        }
        anyhow::anyhow!("{} faults; nothing was changed", faults.len())
    })
}

fn word(changed: Changed) -> &'static str {
    match changed {
        Changed::Added => "added",
        Changed::Updated => "updated",
        Changed::Unchanged => "unchanged",
        Changed::Deleted => "deleted",
        Changed::Unknown => "unknown",
    }
}

fn tell(
    out: &mut impl Write,
    ids: &[String],
    done: &[Changed],
    revision: u64,
) -> std::io::Result<()> {
    for (id, changed) in ids.iter().zip(done) {
        writeln!(out, "{:9}  {id}", word(*changed))?;
    }
    writeln!(out, "{} products, catalogue revision {revision}", ids.len())
}

fn get(common: &Common, ids: Vec<String>, as_json: bool) -> anyhow::Result<()> {
    let store = common.store()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(store.products(ids.clone()))?;
    let known: Vec<&Product> = found.iter().flatten().collect();
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&known)?)?;
    } else {
        for product in &known {
            show(&mut out, product)?;
        }
    }
    let unknown = ids.iter().zip(&found).filter(|(_, found)| found.is_none());
    let unknown: Vec<&str> = unknown.map(|(id, _)| id.as_str()).collect();
    anyhow::ensure!(unknown.is_empty(), "unknown: {}", unknown.join(", "));
    Ok(())
}

fn show(out: &mut impl Write, product: &Product) -> std::io::Result<()> {
    let Product { id, name, description, category, brand, price, created_at, popularity } = product;
    let number = |number: &Option<f64>| number.map_or_else(String::new, |n| n.to_string());
    let added = created_at.map_or_else(String::new, penstock_config::units::rfc3339_seconds);
    for (field, value) in [
        ("id", id),
        ("name", name),
        ("brand", brand),
        ("category", category),
        ("price", &number(price)),
        ("created_at", &added),
        ("popularity", &number(popularity)),
        ("description", description),
    ] {
        if !value.is_empty() {
            writeln!(out, "{field:11}  {value}")?;
        }
    }
    writeln!(out)
}
