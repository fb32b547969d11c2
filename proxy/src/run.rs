//! Starting: from the command line to a server that answers.

use crate::app::{App, EngineSlot};
use crate::decision::Ring;
use crate::drain::Drain;
use crate::server;
use crate::telemetry::{AccessLog, Metrics, logs};
use crate::upstream::Pool;
use anyhow::Context as _;
use penstock_config::bootstrap::Bootstrap;
use penstock_config::clock::{self, SharedClock};
use penstock_config::policy::install_defaults;
use penstock_config::watch::{WatchOptions, Watcher};
use penstock_engine::serve::{Engine, EngineError, Options};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Decisions kept for `/decisions/{trace_id}`: a few megabytes.
const DECISIONS_KEPT: usize = 2_048;
/// Read where no other settings file is named.
const SETTINGS_FILE: &str = "penstock.toml";
/// Between two attempts to open the engine.
const ENGINE_RETRY: Duration = Duration::from_secs(5);

/// The vector index is compiled for AVX2; without it the first search would be an illegal
/// instruction.
pub fn check_cpu() -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx2") {
        return Err(
            "this build needs a processor with AVX2 (any x86-64 since 2013, or build it \
                    without the flags in .cargo/config.toml)"
                .into(),
        );
    }
    Ok(())
}

/// Each ranking thread searches alone: libraries that start a team of threads per caller are told
/// not to. They read the environment when they are loaded, so the process starts itself again.
pub fn one_thread_per_search() {
    const TEAMS: [&str; 2] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"];
    if TEAMS.iter().all(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(itself) = std::env::current_exe() else {
        return;
    };
    let mut again = std::process::Command::new(itself);
    again.args(std::env::args_os().skip(1));
    for name in TEAMS {
        if std::env::var_os(name).is_none() {
            again.env(name, "1");
        }
    }
    // Returns only when it failed; then searches are slower, not wrong.
    let error = again.exec();
    eprintln!(
        "penstock: cannot set {} and start again: {error}",
        TEAMS.join(" and ")
    );
}

/// `penstock run`.
pub fn serve(config: Option<&Path>, upgrade: bool) -> anyhow::Result<()> {
    let settings = settings(config)?;
    logs::start(&settings.log);
    std::fs::create_dir_all(&settings.data_dir).with_context(|| {
        format!(
            "cannot make the data folder {}",
            settings.data_dir.display()
        )
    })?;
    // Sockets first: an address that is taken is worth knowing before anything is loaded.
    let bound = if upgrade {
        server::inherit(&settings)?
    } else {
        server::bind(&settings)?
    };
    let app = Arc::new(app(settings)?);
    count_panics(&app);
    open_engine(&app, upgrade)?;
    server::run(app, bound, upgrade)
}

/// The file at `config`, or `penstock.toml` where there is one, and the environment.
pub fn settings(config: Option<&Path>) -> anyhow::Result<Bootstrap> {
    let usual = Path::new(SETTINGS_FILE);
    let file = config.or_else(|| usual.is_file().then_some(usual));
    let env = |name: &str| std::env::var(name).ok();
    Bootstrap::load(file, &env).map_err(|problems| anyhow::anyhow!("{problems}"))
}

fn app(settings: Bootstrap) -> anyhow::Result<App> {
    let clock = clock::system();
    let metrics = Arc::new(Metrics::register(prometheus::default_registry())?);
    let access_log = AccessLog::start(std::io::stdout(), metrics.access_log_dropped.clone())?;
    let upstream = Arc::new(Pool::new(
        &settings.upstream.servers,
        metrics.upstream_healthy.clone(),
    ));
    let engine = Arc::new(EngineSlot::default());
    Ok(App {
        policies: watch(&settings, &engine, clock.clone())?,
        started: clock.now(),
        clock,
        metrics,
        access_log,
        decisions: Ring::new(DECISIONS_KEPT),
        upstream,
        drain: Arc::new(Drain::default()),
        sample_ratio: 1.0,
        listening: OnceLock::new(),
        engine,
        settings,
    })
}

/// Puts the policy folder in force, from now on. One that does not exist is made with the files a
/// new install starts from.
fn watch(
    settings: &Bootstrap,
    engine: &Arc<EngineSlot>,
    clock: SharedClock,
) -> anyhow::Result<Watcher> {
    let dir = &settings.policy_dir;
    if !dir.exists() {
        install_defaults(dir)
            .with_context(|| format!("cannot make the policy folder {}", dir.display()))?;
    }
    let engine = engine.clone();
    let options = WatchOptions {
        instance: settings.instance.clone(),
        on_accepted: Some(Arc::new(move |policy| {
            if let Ok(engine) = engine.get() {
                engine.policy_changed(policy.clone());
            }
        })),
        ..WatchOptions::default()
    };
    Watcher::start(dir, options, clock).map_err(|problems| anyhow::anyhow!("{problems}"))
}

/// Passing requests through need not wait for the catalogue, so the engine opens beside. In an
/// upgrade the old process serves meanwhile, and goes on doing so if opening fails.
fn open_engine(app: &Arc<App>, upgrade: bool) -> anyhow::Result<()> {
    if upgrade {
        engine(app)?;
        return Ok(());
    }
    let app = app.clone();
    std::thread::Builder::new()
        .name("open-engine".into())
        .spawn(move || {
            while let Err(error) = engine(&app) {
                tracing::error!(%error, "the engine cannot be opened; trying again");
                app.engine.failed(error.to_string());
                std::thread::sleep(ENGINE_RETRY);
            }
        })?;
    Ok(())
}

fn engine(app: &App) -> Result<(), EngineError> {
    let settings = &app.settings;
    let options = Options {
        data_dir: settings.data_dir.clone(),
        embedding_model: settings.embedding_model.clone(),
        workers: settings.workers,
        clock: app.clock.clone(),
    };
    let engine = Engine::open(options, app.policies.current())?;
    app.engine.set(engine.clone());
    // Accepted while the engine was not there to be told.
    engine.policy_changed(app.policies.current());
    Ok(())
}

/// A panic in a request ends that request; it is counted and written down, once.
fn count_panics(app: &Arc<App>) {
    let panics = app.metrics.panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        tracing::error!(thread = std::thread::current().name(), "panic: {panic}");
    }));
}
