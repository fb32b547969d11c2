//! What all requests share: the engine, the policy in force, the settings, the counters.

use crate::access::ListsInForce;
use crate::admission::Admission;
use crate::decision::Ring;
use crate::drain::Drain;
use crate::engine::EngineSlot;
use crate::fleet::SharedEntries;
use crate::identity::keys::Keys;
use crate::pages::Pages;
use crate::results::{Ladder, Results, Warming};
use crate::server::Addresses;
use crate::telemetry::{AccessLog, Metrics, Spans};
use crate::upstream::Pool;
use penstock_config::bootstrap::Bootstrap;
use penstock_config::clock::SharedClock;
use penstock_config::watch::Watcher;
use penstock_engine::redis::Link;
use penstock_engine::serve::{Caches, EngineError};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Made once in `main`; every request holds a reference.
pub struct App {
    /// Read once, when the process started.
    pub settings: Bootstrap,
    /// The policy in force and what became of the latest files.
    pub policies: Watcher,
    /// The time.
    pub clock: SharedClock,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// The access log's queue.
    pub access_log: AccessLog,
    /// The latest decisions.
    pub decisions: Ring,
    /// Where sampled decisions go as spans; `None`: nobody collects them.
    pub spans: Option<Spans>,
    /// The shop's application.
    pub upstream: Arc<Pool>,
    /// Its answers that are kept.
    pub pages: Pages,
    /// Redis, when there is one.
    pub link: Option<Arc<Link>>,
    /// API keys.
    pub keys: Arc<Keys>,
    /// Who always passes and who never does.
    pub lists: Arc<ListsInForce>,
    /// Entries of the lists that are in Redis.
    pub shared_entries: Arc<SharedEntries>,
    /// Who may pass how often.
    pub admission: Admission,
    /// How much is done for each request.
    pub ladder: Ladder,
    /// Whether the process is on its way out.
    pub drain: Arc<Drain>,
    /// Share of new traces that are sampled, 0 to 1.
    pub sample_ratio: f64,
    /// When the process started.
    pub started: Instant,
    /// Where this process listens, once it does.
    pub listening: OnceLock<Addresses>,
    /// What is remembered, and who is told of changes.
    pub caches: Arc<Caches>,
    /// Answers that are remembered.
    pub results: Results,
    /// What is asked most, and how warming stands.
    pub warming: Warming,
    /// Search and recommendations, or why there are none yet.
    pub engine: Arc<EngineSlot>,
}

impl App {
    /// Whether a search would be answered.
    pub fn can_serve(&self) -> Result<(), EngineError> {
        let status = self.engine.get()?.status();
        if status.ready { Ok(()) } else { Err(EngineError::NotReady(status.notes.join("; "))) }
    }
}
