//! Batch jobs over both stores: the file and PostgreSQL.

mod affinity;
mod leaders;
mod popularity;
mod retention;
mod snapshot;

use crate::stores::{open, prepared};
use penstock_config::clock::{self, SharedClock};
use penstock_config::policy::{EventWeights, Policy};
use penstock_engine::jobs::{Context, Job, JobError, run};
use penstock_engine::store::SqliteStore;
use penstock_engine::store::jobs::{JobStore, PopularityBy};
use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub const DAY: i64 = 86_400_000_000;

/// A store, a data folder, and for PostgreSQL the server.
pub struct Shop {
    pub store: Arc<dyn JobStore>,
    pub server: Option<PgServer>,
    pub folder: TempDir,
    pub clock: SharedClock,
    pub policy: Arc<Policy>,
}

impl Shop {
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::in_folder(&folder, clock::system()).expect("a store");
        Self::over(Arc::new(store), None, folder)
    }

    /// `None` where PostgreSQL is not installed.
    pub async fn of_postgres() -> Option<Self> {
        if !installed() {
            return None;
        }
        let server = PgServer::relaxed().await;
        let store = open(&prepared(&server, &[("PENSTOCK_KEEP_MONTHS", "3")]).await);
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self::over(Arc::new(store), Some(server), folder))
    }

    fn over(store: Arc<dyn JobStore>, server: Option<PgServer>, folder: TempDir) -> Self {
        let clock = clock::system();
        Self { store, server, folder, clock, policy: Arc::default() }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn run(&self, job: Job, full: bool) -> Result<Value, JobError> {
        let data_dir = self.data();
        run(job, &self.context(&data_dir, full))
    }

    pub fn context<'c>(&'c self, data_dir: &'c std::path::Path, full: bool) -> Context<'c> {
        Context {
            store: &*self.store,
            policy: self.policy.clone(),
            data_dir,
            clock: self.clock.clone(),
            instance: "test",
            full,
            keep_days: 30,
            progress: &|_, _| {},
        }
    }
}

pub fn by(full: bool) -> PopularityBy {
    let weights = EventWeights { view: 1.0, add_to_cart: 3.0, purchase: 5.0 };
    PopularityBy { weights, half_life: Duration::from_hours(30 * 24), full }
}

/// Number and score of every product that has one.
pub fn scores(store: &dyn JobStore) -> Vec<(u32, f64)> {
    let made = store.popularity_made().expect("read").expect("made");
    let mut all = Vec::new();
    store.scan_popularity(&made, &mut |ordinal, score| all.push((ordinal.0, score))).expect("read");
    all.sort_by_key(|(ordinal, _)| *ordinal);
    all
}

macro_rules! of_every_store {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod of_a_file {
            $($(#[$doc])* #[tokio::test] async fn $name() {
                super::$name(&super::super::Shop::embedded()).await;
            })*
        }
        mod of_postgres {
            $($(#[$doc])* #[tokio::test] async fn $name() {
                let Some(shop) = super::super::Shop::of_postgres().await else { return };
                super::$name(&shop).await;
            })*
        }
    };
}
pub(crate) use of_every_store;
