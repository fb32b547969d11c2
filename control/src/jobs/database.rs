//! The shop's database, for commands.

use super::Usage;
use penstock_config::bootstrap::{Bootstrap, Database};

/// Where the shop's database is
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ShopDatabase {
    /// PostgreSQL of the shop [env: PENSTOCK_DATABASE_URL]; without it the store is a file in the data
    /// folder. Its password may be in the file that PENSTOCK_DATABASE_PASSWORD_FILE names
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
}

impl ShopDatabase {
    /// Its settings, as a proxy would read them from the environment; `None`: there is none.
    pub fn settings(&self) -> Result<Option<Database>, Usage> {
        let env = |name: &str| {
            if name == "PENSTOCK_DATABASE_URL" && self.database.is_some() {
                return self.database.clone();
            }
            let about_it = name.starts_with("PENSTOCK_DATABASE_") || OTHERS.contains(&name);
            if about_it { std::env::var(name).ok() } else { None }
        };
        let settings = Bootstrap::parse("penstock.toml", b"", &env);
        Ok(settings.map_err(|problems| Usage(problems.to_string()))?.database)
    }
}

/// Settings of the database whose names do not begin like the others'.
const OTHERS: [&str; 6] = [
    "PENSTOCK_REPLICA_URLS",
    "PENSTOCK_READ_FROM",
    "PENSTOCK_MAX_LAG_SECONDS",
    "PENSTOCK_SLOW_QUERY_MS",
    "PENSTOCK_KEEP_MONTHS",
    "PENSTOCK_SPOOL_BYTES",
];
