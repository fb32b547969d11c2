//! Where the engine appears once it is open.
//!
//! Loading a large catalogue takes seconds, and a store that cannot be opened may take a person.
//! Neither must keep the shop behind this proxy from being reached, so the listeners do not wait.

use crate::app::App;
use anyhow::Context;
use penstock_engine::serve::{Engine, EngineError, Options};
use penstock_engine::store::{DataStore, PostgresStore, spool};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Between two attempts to open the engine.
const RETRY: Duration = Duration::from_secs(5);
/// How long an upgrade waits for its own catalogue.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(300);

/// The engine, or why there is none yet.
pub struct EngineSlot {
    engine: OnceLock<Arc<Engine>>,
    why_not: Mutex<String>,
}

impl Default for EngineSlot {
    fn default() -> Self {
        Self {
            engine: OnceLock::new(),
            why_not: Mutex::new("the catalogue is being loaded".into()),
        }
    }
}

impl EngineSlot {
    /// The engine, or the error for whoever needs it now.
    pub fn get(&self) -> Result<&Arc<Engine>, EngineError> {
        self.engine.get().ok_or_else(|| {
            let why = self.why_not.lock().unwrap_or_else(PoisonError::into_inner);
            EngineError::NotReady(why.clone())
        })
    }

    fn failed(&self, why: String) {
        *self.why_not.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Opens the engine and puts it in its slot.
fn open(app: &App) -> Result<(), EngineError> {
    let settings = &app.settings;
    let options = Options {
        data_dir: settings.data_dir.clone(),
        embedding_model: settings.embedding_model.clone(),
        workers: settings.workers,
        clock: app.clock.clone(),
        caches: Some(app.caches.clone()),
    };
    let opened = store(app).and_then(|store| match store {
        Some(store) => Engine::with_store(options, store, app.policies.current()),
        None => Engine::open(options, app.policies.current()),
    });
    let engine = opened.inspect_err(|error| {
        tracing::error!(%error, "no search and no recommendations: the engine cannot be opened");
        app.engine.failed(error.to_string());
    })?;
    // There is one opener.
    let _ = app.engine.engine.set(engine.clone());
    // Told of what was accepted before there was anybody to tell.
    engine.policy_changed(app.policies.current());
    Ok(())
}

/// The shop's database, if there is one.
fn store(app: &App) -> Result<Option<Arc<dyn DataStore>>, EngineError> {
    let Some(database) = app.settings.database.clone() else { return Ok(None) };
    let observer = Arc::new(app.metrics.database.clone());
    let spool = app.settings.data_dir.join(spool::FOLDER);
    let (instance, clock) = (&app.settings.instance, app.clock.clone());
    let store = PostgresStore::open(database, instance, Some(&spool), clock, observer)?;
    Ok(Some(Arc::new(store)))
}

/// Opens the engine on a thread of its own, as soon as what keeps it from opening is gone.
pub fn open_in_background(app: &Arc<App>) -> anyhow::Result<()> {
    let app = app.clone();
    let opening = move || {
        while open(&app).is_err() {
            std::thread::sleep(RETRY);
        }
    };
    std::thread::Builder::new().name("open-engine".into()).spawn(opening)?;
    Ok(())
}

/// An upgrade takes over when there is something to serve; until then, and if that never comes, the
/// running process serves on.
pub fn open_for_upgrade(app: &App) -> anyhow::Result<()> {
    open(app).context("not taking over")?;
    let deadline = app.clock.now() + UPGRADE_PATIENCE;
    while let Err(why) = app.can_serve() {
        if app.clock.now() > deadline {
            anyhow::bail!("not taking over: {why}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
