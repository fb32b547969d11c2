//! `penstock-control migrate`: the schema of the shop's database, made and brought up to date.

use super::{Common, Usage};
use penstock_engine::store::postgres::migrate;

/// Makes the schema in the shop's database, or brings it up to date; safe to run from several places at once
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Runs the command.
pub fn run(common: &Common, _: &Options) -> anyhow::Result<()> {
    let Some(settings) = common.database.settings()? else {
        let why = "there is no database to migrate: set PENSTOCK_DATABASE_URL or --database; the file in the \
                   data folder is brought up to date by whoever opens it";
        return Err(Usage(why.into()).into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let migrated = runtime.block_on(migrate(&settings, "control"))?;
    for step in &migrated.steps {
        println!("{step}: done");
    }
    println!("{}: schema version {}", settings.url, migrated.version);
    Ok(())
}
