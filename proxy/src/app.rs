//! What all requests share: the engine, the policy in force, the settings, the counters.

use crate::decision::Ring;
use crate::drain::Drain;
use crate::server::Addresses;
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::Pool;
use penstock_config::bootstrap::Bootstrap;
use penstock_config::clock::SharedClock;
use penstock_config::watch::Watcher;
use penstock_engine::serve::{Engine, EngineError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
    /// The shop's application.
    pub upstream: Arc<Pool>,
    /// Whether the process is on its way out.
    pub drain: Arc<Drain>,
    /// Share of new traces that are sampled, 0 to 1.
    pub sample_ratio: f64,
    /// When the process started.
    pub started: Instant,
    /// Where this process listens, once it does.
    pub listening: OnceLock<Addresses>,
    /// The engine, or why there is none yet.
    pub engine: Arc<EngineSlot>,
}

/// Where the engine appears once it is open. Opening can take a while; passing requests through
/// need not wait for it.
#[derive(Default)]
pub struct EngineSlot {
    engine: OnceLock<Arc<Engine>>,
    why_not: Mutex<String>,
}

impl EngineSlot {
    /// The engine, or the error for whoever needs it now.
    pub fn get(&self) -> Result<&Arc<Engine>, EngineError> {
        self.engine.get().ok_or_else(|| {
            let why = self.why_not.lock().unwrap_or_else(PoisonError::into_inner);
            EngineError::NotReady(if why.is_empty() {
                "still opening".into()
            } else {
                why.clone()
            })
        })
    }

    /// Puts the opened engine in place.
    pub fn set(&self, engine: Arc<Engine>) {
        // The first one stays; there is one opener.
        let _ = self.engine.set(engine);
    }

    /// Notes why opening failed.
    pub fn failed(&self, why: String) {
        *self.why_not.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

impl App {
    /// Whether a search would be answered.
    pub fn can_serve(&self) -> Result<(), EngineError> {
        let status = self.engine.get()?.status();
        if status.ready {
            Ok(())
        } else {
            Err(EngineError::NotReady(status.notes.join("; ")))
        }
    }
}
