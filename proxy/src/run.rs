//! Starting: from the command line to a server that answers.

use crate::access::ListsInForce;
use crate::admission::Admission;
use crate::app::App;
use crate::decision::Ring;
use crate::drain::Drain;
use crate::engine::{self, EngineSlot};
use crate::fleet::SharedEntries;
use crate::identity::keys::Keys;
use crate::pages::Pages;
use crate::results::{Ladder, Results, Warming};
use crate::server;
use crate::telemetry::{AccessLog, Metrics, Spans, logs, spans};
use crate::upstream::Pool;
use anyhow::Context as _;
use penstock_config::bootstrap::{Bootstrap, misspelt};
use penstock_config::check::Report;
use penstock_config::clock::{self, SharedClock};
use penstock_config::policy::install_defaults;
use penstock_config::problem::Problems;
use penstock_config::watch::{WatchOptions, Watcher};
use penstock_engine::redis::Link;
use penstock_engine::serve::Caches;
use prometheus::Registry;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// Decisions kept for `/decisions/{trace_id}`: a few megabytes.
const DECISIONS_KEPT: usize = 2_048;
/// Read where no other settings file is named.
const SETTINGS_FILE: &str = "penstock.toml";

/// The vector index is compiled for AVX2; without it the first search would be an illegal
/// instruction.
pub fn check_cpu() -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx2") {
        return Err("this build needs a processor with AVX2 (any x86-64 since 2013, or build it \
                    without the flags in .cargo/config.toml)"
            .into());
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
    eprintln!("penstock: cannot set {} and start again: {error}", TEAMS.join(" and "));
}

/// `penstock run`.
pub fn serve(config: Option<&Path>, upgrade: bool) -> anyhow::Result<()> {
    let (settings, misspelt) = load_noting(config)?;
    logs::start(&settings.log);
    for (name, meant) in misspelt {
        tracing::warn!("{name} is set and no setting: did you mean {meant}?");
    }
    std::fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("cannot make the data folder {}", settings.data_dir.display()))?;
    // Sockets first: an address that is taken is worth knowing before anything is loaded.
    let bound = if upgrade { server::inherit(&settings)? } else { server::bind(&settings)? };
    let app = Arc::new(app(settings, prometheus::default_registry())?);
    count_panics(&app);
    if upgrade {
        engine::open_for_upgrade(&app)?;
    } else {
        engine::open_in_background(&app)?;
    }
    server::run(app, bound, upgrade)
}

/// `penstock check`: what is wrong, and whether there is anything.
pub fn check(paths: &[PathBuf], config: Option<&Path>) -> ExitCode {
    let report =
        if paths.is_empty() { check_own(config) } else { penstock_config::check::check(paths) };
    println!("{report}");
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `penstock run` would start with here: settings, environment and the policy folder.
fn check_own(config: Option<&Path>) -> Report {
    let own = Report { files: 1, ..Report::default() };
    match load(config) {
        Err(Problems(problems)) => Report { problems, ..own },
        // Made with the defaults at the first start.
        Ok(settings) if !settings.policy_dir.exists() => own,
        Ok(settings) => {
            let report = penstock_config::check::check(&[&settings.policy_dir]);
            Report { files: report.files + own.files, ..report }
        }
    }
}

/// As [`load`], and the variables that are probably misspelt, with what was meant.
fn load_noting(config: Option<&Path>) -> Result<(Bootstrap, Vec<(String, String)>), Problems> {
    let asked = RefCell::new(BTreeSet::new());
    let settings = load_with(config, &|name| {
        asked.borrow_mut().insert(name.to_owned());
        std::env::var(name).ok()
    })?;
    let set: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let misspelt = misspelt(set.iter().map(String::as_str), &asked.borrow());
    Ok((settings, misspelt))
}

/// The file at `config`, or `penstock.toml` where there is one, and the environment.
fn load(config: Option<&Path>) -> Result<Bootstrap, Problems> {
    load_with(config, &|name| std::env::var(name).ok())
}

fn load_with(
    config: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Bootstrap, Problems> {
    let usual = Path::new(SETTINGS_FILE);
    let file = config.or_else(|| usual.is_file().then_some(usual));
    Bootstrap::load(file, env)
}

/// Everything requests share, the engine still to come.
pub(crate) fn app(settings: Bootstrap, registry: &Registry) -> anyhow::Result<App> {
    let clock = clock::system();
    let metrics = Arc::new(Metrics::register(registry)?);
    let access_log = AccessLog::start(std::io::stdout(), metrics.access_log_dropped.clone())?;
    let upstream =
        Arc::new(Pool::new(&settings.upstream.servers, metrics.upstream_healthy.clone(), &clock));
    let engine: Arc<EngineSlot> = Arc::default();
    let link = settings.redis.clone().map(|redis| Link::new(redis, clock.clone())).transpose();
    let link = link.context("cannot start the thread that talks to Redis")?.map(Arc::new);
    let lists: Arc<ListsInForce> = Arc::default();
    let shared_entries = Arc::new(SharedEntries::kept_in(&settings.data_dir, link.is_some()));
    let policies = watch(&settings, &engine, &lists, &shared_entries, clock.clone())?;
    lists.refresh(|| policies.current(), &shared_entries);
    let keys = Arc::new(Keys::open(&settings.policy_dir, &settings.data_dir, clock.clone()));
    keys.follow()?;
    let policy = policies.current();
    let caches =
        Caches::new(&policy, link.clone(), clock.clone(), Arc::new(metrics.layers.clone()));
    let results = Results::new(&caches, &policy);
    caches.remember_weights(&policy);
    Ok(App {
        caches: Arc::new(caches),
        results,
        warming: Warming::kept_in(&settings.data_dir, &policy),
        policies,
        keys,
        lists,
        shared_entries,
        started: clock.now(),
        admission: Admission::new(clock.now(), link.clone()),
        ladder: Ladder::new(settings.workers, clock.now()),
        link,
        clock,
        spans: Spans::from_env(&metrics)?,
        sample_ratio: spans::sample_ratio(),
        metrics,
        access_log,
        decisions: Ring::new(DECISIONS_KEPT),
        upstream,
        pages: Pages::default(),
        drain: Arc::new(Drain::default()),
        listening: OnceLock::new(),
        engine,
        settings,
    })
}

/// Puts the policy folder in force. One that does not exist is made with the files a new install
/// starts from.
fn watch(
    settings: &Bootstrap,
    engine: &Arc<EngineSlot>,
    lists: &Arc<ListsInForce>,
    shared_entries: &Arc<SharedEntries>,
    clock: SharedClock,
) -> anyhow::Result<Watcher> {
    let dir = &settings.policy_dir;
    if !dir.exists() {
        install_defaults(dir)
            .with_context(|| format!("cannot make the policy folder {}", dir.display()))?;
    }
    let (engine, lists, shared_entries) = (engine.clone(), lists.clone(), shared_entries.clone());
    let options = WatchOptions {
        instance: settings.instance.clone(),
        // Outside the policy folder, which may be read-only (a ConfigMap) or deleted.
        keep_in: Some(settings.data_dir.join("policy-accepted")),
        on_accepted: Some(Arc::new(move |policy| {
            lists.refresh(|| policy.clone(), &shared_entries);
            if let Ok(engine) = engine.get() {
                engine.policy_changed(policy.clone());
            }
        })),
        ..WatchOptions::default()
    };
    Ok(Watcher::start(dir, options, clock)?)
}

/// A panic in a request ends that request; it is counted and written down, once.
fn count_panics(app: &Arc<App>) {
    let panics = app.metrics.panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        tracing::error!(thread = std::thread::current().name(), "panic: {panic}");
    }));
}
