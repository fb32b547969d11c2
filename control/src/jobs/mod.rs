//! The commands, one file each: its options and `run`.

pub mod batch;
mod database;
pub mod demo;
pub mod evaluate;
pub mod examples;
pub mod features;
pub mod import;
pub mod index;
pub mod keys;
pub mod lists;
pub mod migrate;
pub mod policy;
pub mod products;
mod progress;
pub mod redis;

pub use database::ShopDatabase;
pub use progress::Bar;

use anyhow::Context;
use penstock_config::clock;
use penstock_config::policy::install_defaults;
use penstock_config::units;
use penstock_engine::store::jobs::JobStore;
use penstock_engine::store::postgres::Unobserved;
use penstock_engine::store::{DataStore, PostgresStore, SqliteStore};
use std::path::PathBuf;
use std::sync::Arc;

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The data folder: the store, the indexes, the policy
    #[arg(
        long,
        global = true,
        env = "PENSTOCK_DATA_DIR",
        default_value = "./data",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// What to log: error, warn, info, debug, or targets (penstock_engine=debug)
    #[arg(
        long,
        global = true,
        env = "PENSTOCK_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub log: String,
    /// The shop's database.
    #[command(flatten)]
    pub database: ShopDatabase,
}

impl Common {
    /// Opens the shop's database, or where there is none the store of the data folder, which is made when it is
    /// missing.
    pub fn store(&self) -> anyhow::Result<Arc<dyn DataStore>> {
        Ok(self.job_store()?)
    }

    /// The same, for batch jobs.
    pub fn job_store(&self) -> anyhow::Result<Arc<dyn JobStore>> {
        if let Some(settings) = self.database.settings()? {
            let place = settings.url.to_string();
            let observer = Arc::new(Unobserved);
            let store = PostgresStore::open(settings, "control", None, clock::system(), observer);
            return Ok(Arc::new(store.with_context(|| format!("cannot use {place}"))?));
        }
        let store = SqliteStore::in_folder(&self.data_dir, clock::system())
            .with_context(|| format!("cannot use the data folder {}", self.data_dir.display()))?;
        Ok(Arc::new(store))
    }
}

/// Where the policy is.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The policy folder [default: policy in the data folder]
    #[arg(long, global = true, env = "PENSTOCK_POLICY_DIR", value_name = "FOLDER")]
    policy_dir: Option<PathBuf>,
}

impl Place {
    /// The policy folder, whether it is there or not.
    pub fn path(&self, common: &Common) -> PathBuf {
        self.policy_dir.clone().unwrap_or_else(|| common.data_dir.join("policy"))
    }

    /// The policy folder, which exists then: `makes` says that a missing one is made with the default
    /// files.
    pub fn folder(self, common: &Common, makes: bool) -> anyhow::Result<PathBuf> {
        let dir = self.path(common);
        if !dir.exists() {
            if !makes {
                return Err(Usage(format!("there is no policy folder at {}", dir.display())).into());
            }
            install_defaults(&dir)
                .with_context(|| format!("cannot make the policy folder {}", dir.display()))?;
        }
        Ok(dir)
    }
}

/// `--expires`, as [`units::until`] reads it.
fn until(text: &str, now: i64) -> Result<i64, Usage> {
    units::until(text, now).map_err(|why| Usage(format!("--expires {text}: {why}")))
}

/// The command line asks for something that makes no sense: exit code 2, nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
