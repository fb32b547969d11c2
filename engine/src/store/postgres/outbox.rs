//! The spool in front of the primary, opened when it can be: a disk that takes no events takes nothing from those who
//! read.

use super::Shared;
use crate::catalog::Event;
use crate::store::StoreError;
use crate::store::spool::{Settings, Sink, Spool, Status};
use futures::future::BoxFuture;
use penstock_config::clock::SharedClock;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Between two attempts to open a spool.
const AGAIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Outbox {
    folder: PathBuf,
    settings: Settings,
    clock: SharedClock,
    spool: OnceLock<Arc<Spool>>,
    /// Why there is none.
    why: Mutex<String>,
}

impl Outbox {
    /// Tries to open the spool in `folder`.
    pub fn open(folder: PathBuf, max_bytes: u64, clock: SharedClock) -> Self {
        let settings = Settings { max_bytes, ..Settings::default() };
        let outbox =
            Self { folder, settings, clock, spool: OnceLock::new(), why: Mutex::default() };
        outbox.try_open();
        outbox
    }

    /// The spool, or why there is none.
    pub fn spool(&self) -> Result<&Arc<Spool>, StoreError> {
        self.spool.get().ok_or_else(|| {
            let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
            StoreError::Unavailable(format!("no events can be taken: {why}"))
        })
    }

    /// How it is; `None`: it could not be opened.
    pub fn status(&self) -> Option<Status> {
        self.spool.get().map(|spool| spool.status())
    }

    fn try_open(&self) -> Option<Arc<Spool>> {
        match Spool::open(&self.folder, self.settings.clone(), self.clock.clone()) {
            Ok(spool) => Some(self.spool.get_or_init(|| spool).clone()),
            Err(error) => {
                let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
                if *why != error.to_string() {
                    tracing::error!(%error, "the spool cannot be opened: no events are taken");
                }
                *why = error.to_string();
                None
            }
        }
    }

    /// Ships to the primary until it is dropped.
    pub async fn ship(self: Arc<Self>, shared: Arc<Shared>) {
        let spool = loop {
            let outbox = self.clone();
            let opening = tokio::task::spawn_blocking(move || {
                outbox.spool.get().cloned().or_else(|| outbox.try_open())
            });
            match opening.await {
                Ok(Some(spool)) => break spool,
                _ => tokio::time::sleep(AGAIN).await,
            }
        };
        // Who has to know is told while they are stored.
        spool.ship_to(&ToPrimary(shared), &|_: &[Event]| {}).await;
    }
}

struct ToPrimary(Arc<Shared>);

impl Sink for ToPrimary {
    fn ship<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let stored = self.0.store_events(events).await;
            stored.map(|_| ()).map_err(|fault| fault.told("storing events"))
        })
    }
}
