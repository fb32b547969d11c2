//! `penstock-control features`: which features there are, how good their values are, and the files for training.

use super::batch::{KEEP_DAYS, Work, instance, policy};
use super::{Common, Place, Usage};
use anyhow::bail;
use penstock_config::clock;
use penstock_engine::features::{FEATURES, FeatureInfo, MadeBy, feature};
use penstock_engine::jobs::check::{Checked, check};
use penstock_engine::jobs::{Job, noted, snapshot};
use serde_json::json;
use std::io::Write;

/// Lists features, checks their stored values, writes them as files for training
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The features there are
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// All that is known of one feature, and what it is made from
    Show {
        /// As `list` shows it
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Looks whether stored values are young enough, there and in range; exit code 1 when they are not
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Writes all stored features as Parquet files with a manifest
    Snapshot {
        /// Name of the folder, YYYY-MM-DD [default: today, UTC]; the values are those of now
        #[arg(long, value_name = "DATE")]
        date: Option<String>,
        /// Days of snapshots to keep
        #[arg(long, value_name = "DAYS", default_value_t = KEEP_DAYS)]
        keep_days: u16,
    },
}

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let Options { place, command } = options;
    let mut out = std::io::stdout().lock();
    let silent = |_: &'static str, _: u64| {};
    match command {
        Command::List { json: true } => writeln!(out, "{}", json!(FEATURES))?,
        Command::List { json: false } => list(&mut out)?,
        Command::Show { name, json } => {
            let Some(info) = feature(&name) else {
                let known: Vec<&str> = FEATURES.iter().map(|info| info.name).collect();
                let why = format!("there is no feature {name:?}; there are {}", known.join(", "));
                return Err(Usage(why).into());
            };
            if json { writeln!(out, "{}", json!(info))? } else { show(&mut out, info)? }
        }
        Command::Check { json } => {
            let store = common.job_store()?;
            let policy = policy(&place.path(common))?;
            let work = Work { store: &*store, common, instance: instance(), keep_days: KEEP_DAYS };
            let found = check(&work.context(policy, false, &silent))?;
            if json {
                writeln!(out, "{}", json!(found))?
            } else {
                table(&mut out, &found)?
            }
            let bad = found.iter().filter(|found| !found.problems.is_empty()).count();
            if bad > 0 {
                bail!("{bad} of {} features are not as they should be", found.len());
            }
        }
        Command::Snapshot { date, keep_days } => {
            let date = date.unwrap_or_else(|| snapshot::today(&*clock::system()));
            if !snapshot::is_date(&date) {
                return Err(Usage(format!("--date {date}: write it as 2026-01-31")).into());
            }
            let store = common.job_store()?;
            let policy = policy(&place.path(common))?;
            let work = Work { store: &*store, common, instance: instance(), keep_days };
            let context = work.context(policy, false, &silent);
            let done = noted(Job::Snapshot, &context, || snapshot::write(&context, &date))?;
            writeln!(out, "{}", done["folder"].as_str().unwrap_or_default())?;
            for file in done["files"].as_object().into_iter().flat_map(|files| files.values()) {
                let name = file["file"].as_str().unwrap_or_default();
                writeln!(out, "  {name}: {} rows, {} bytes", file["rows"], file["bytes"])?;
            }
        }
    }
    Ok(())
}

fn list(out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{:<24} {:<17} {:<5} {:>7}  made by", "feature", "of", "type", "version")?;
    for info in FEATURES {
        let (name, entity, kind, version) =
            (info.name, info.entity.name(), info.kind, info.version);
        writeln!(out, "{name:<24} {entity:<17} {kind:<5} {version:>7}  {}", made_by(info))?;
    }
    Ok(())
}

fn made_by(info: &FeatureInfo) -> String {
    match info.lineage.made_by {
        MadeBy::Job(name) => format!("job {name}"),
        MadeBy::Request => "each request".into(),
        MadeBy::Shop => "the shop".into(),
    }
}

fn show(out: &mut impl Write, info: &FeatureInfo) -> std::io::Result<()> {
    let lineage = &info.lineage;
    let staleness = match info.staleness_seconds {
        0 => "made in the request".to_owned(),
        seconds => format!("{seconds} s at most"),
    };
    let range = info.limits.range.map_or_else(String::new, |(low, high)| match high {
        f64::MAX => format!(", at least {low}"),
        high => format!(", in [{low}, {high}]"),
    });
    let joined = |names: &[&str]| if names.is_empty() { "–".into() } else { names.join(", ") };
    for (name, text) in [
        ("name", info.name.to_owned()),
        ("of", info.entity.name().to_owned()),
        ("type", info.kind.to_owned()),
        ("unit", info.unit.to_owned()),
        ("source", info.source.to_owned()),
        ("version", info.version.to_string()),
        ("staleness", staleness),
        ("default", info.default.to_owned()),
        ("owner", info.owner.to_owned()),
        ("made by", made_by(info)),
        ("columns", joined(lineage.columns)),
        ("features", joined(lineage.features)),
        ("policy", joined(lineage.policy)),
        ("limits", format!("{} % without a value{range}", info.limits.most_nulls * 100.0)),
    ] {
        writeln!(out, "{name:<10} {text}")?;
    }
    Ok(())
}

fn table(out: &mut impl Write, found: &[Checked]) -> std::io::Result<()> {
    writeln!(out, "{:<24} {:>10} {:>8} {:>10}  found", "feature", "entities", "nulls", "age")?;
    for one in found {
        let age = one.age_seconds.map_or_else(|| "–".to_owned(), |age| format!("{age} s"));
        let nulls = format!("{:.1} %", one.null_rate * 100.0);
        let said = if one.problems.is_empty() { "good".into() } else { one.problems.join("; ") };
        let (name, entities) = (one.name, one.entities);
        writeln!(out, "{name:<24} {entities:>10} {nulls:>8} {age:>10}  {said}")?;
    }
    Ok(())
}
