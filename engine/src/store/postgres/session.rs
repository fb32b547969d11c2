//! A connection of its own for work that takes long: scans, imports, changes.

use super::connect::{Connector, Purpose};
use super::fault::Fault;
use tokio_postgres::Client;

/// Closed when it is dropped; what it did not commit did not happen.
pub(super) struct Session {
    pub client: Client,
    driving: tokio::task::JoinHandle<()>,
}

impl Session {
    pub async fn open(connector: &Connector) -> Result<Self, Fault> {
        let (client, driver) = connector.to(Purpose::Work).open().await?;
        let driving = tokio::spawn(async move {
            let _ = driver.drive().await;
        });
        Ok(Self { client, driving })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
