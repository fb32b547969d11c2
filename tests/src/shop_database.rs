//! Shops whose catalogue is in PostgreSQL.

use crate::binaries::{Ran, control_with};
use crate::penstock::{Penstock, Setup};
use crate::postgres::PgServer;
use crate::shop::Shop;

/// A data folder, and the servers that the catalogue is on.
pub struct DatabaseShop {
    /// Index versions and policy.
    pub shop: std::sync::Arc<Shop>,
    url: String,
    replicas: String,
}

impl DatabaseShop {
    /// The demo shop on `servers`: the first takes writes, the others are its replicas. Any of them may be promoted.
    pub fn demo(servers: &[&PgServer]) -> Self {
        let made = Self::prepared(servers);
        drop(
            made.control(&["demo", "--products", "300", "--events", "3000", "--users", "200"]).ok(),
        );
        drop(made.control(&["index"]).ok());
        made
    }

    /// A shop without a catalogue.
    pub fn prepared(servers: &[&PgServer]) -> Self {
        let (primary, replicas) = servers.split_first().expect("one server at least");
        let own = primary.address().to_string();
        let all: Vec<String> = servers.iter().map(|server| server.address().to_string()).collect();
        let replicas: Vec<String> =
            replicas.iter().map(|replica| replica.url("penstock")).collect();
        let made = Self {
            shop: std::sync::Arc::new(Shop::empty()),
            url: primary.url("penstock").replace(&own, &all.join(",")),
            replicas: replicas.join(","),
        };
        drop(made.control(&["migrate"]).ok());
        made
    }

    /// Runs `penstock-control` on it.
    pub fn control(&self, args: &[&str]) -> Ran {
        control_with(self.shop.data(), args, &[("PENSTOCK_DATABASE_URL", &self.url)])
    }

    /// A proxy to be over it.
    pub fn proxy(&self) -> Setup {
        Penstock::over(self.shop.clone())
            .env("PENSTOCK_DATABASE_URL", &self.url)
            .env("PENSTOCK_REPLICA_URLS", &self.replicas)
    }

    /// The same with another data folder: another machine of the fleet.
    pub fn elsewhere(&self) -> Self {
        let shop = std::sync::Arc::new(self.shop.copy());
        Self { shop, url: self.url.clone(), replicas: self.replicas.clone() }
    }
}
