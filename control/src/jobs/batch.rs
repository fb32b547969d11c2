//! `penstock-control jobs`: batch jobs, one of them now or all at their intervals.

use super::{Bar, Common, Place, Usage};
use crossbeam_channel::{Receiver, bounded};
use penstock_config::clock;
use penstock_config::policy::Policy;
use penstock_config::units::rfc3339_seconds;
use penstock_engine::jobs::schedule::{self, News};
use penstock_engine::jobs::{self, Context, Job};
use penstock_engine::store::jobs::{JobRun, JobStore};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs batch jobs: popularity, freshness, long-term affinity, feature snapshots, maintenance
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The jobs there are, and their last runs
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Runs one job now, and says what it did
    Run {
        /// As `list` shows it
        name: String,
        /// From everything, whatever was done before
        #[arg(long)]
        full: bool,
        /// Days of snapshots to keep
        #[arg(long, value_name = "DAYS", default_value_t = KEEP_DAYS)]
        keep_days: u16,
    },
    /// The latest runs
    History {
        /// Of this job alone
        name: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u16,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Runs all jobs at their intervals until it is told to stop; of several that are started, one does the work
    Start {
        /// Days of snapshots to keep
        #[arg(long, value_name = "DAYS", default_value_t = KEEP_DAYS)]
        keep_days: u16,
    },
}

/// Days of snapshots that are kept when nobody says otherwise.
pub(super) const KEEP_DAYS: u16 = 30;

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let Options { place, command } = options;
    let store = common.job_store()?;
    let mut out = std::io::stdout().lock();
    match command {
        Command::List { json } => list(&mut out, &*store, json)?,
        Command::History { name, limit, json } => {
            let job = name.map(|name| named(&name)).transpose()?;
            let runs = store.runs(job.map(Job::name), limit.into())?;
            if json {
                writeln!(out, "{}", json!(runs))?;
            } else {
                history(&mut out, &runs)?;
            }
        }
        Command::Run { name, full, keep_days } => {
            let job = named(&name)?;
            let policy = policy(&place.path(common))?;
            let work = Work { store: &*store, common, instance: instance(), keep_days };
            let done = work.run(job, policy, full)?;
            writeln!(out, "{}: {}", job.name(), brief(&done))?;
        }
        Command::Start { keep_days } => {
            drop(out);
            start(&*store, common, &place.path(common), keep_days)?;
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<Job, Usage> {
    Job::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Job::ALL.iter().map(|job| job.name()).collect();
        Usage(format!("there is no job {name:?}; there are {}", known.join(", ")))
    })
}

/// The policy in force, or, before there is one, the one that a new installation begins with.
pub(super) fn policy(folder: &Path) -> anyhow::Result<Arc<Policy>> {
    if !folder.exists() {
        return Ok(Arc::default());
    }
    let (policy, warnings) = Policy::load(folder)?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(Arc::new(policy))
}

/// Whose runs these are: this process on this machine.
pub(super) fn instance() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", machine.trim(), std::process::id())
}

/// A job run for a person who waits.
pub(super) struct Work<'a> {
    pub store: &'a dyn JobStore,
    pub common: &'a Common,
    pub instance: String,
    pub keep_days: u16,
}

impl Work<'_> {
    fn run(&self, job: Job, policy: Arc<Policy>, full: bool) -> anyhow::Result<Value> {
        let bar = Mutex::new(Bar::new(job.name(), 0));
        let progress = |kind: &'static str, count: u64| {
            let bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
            bar.set(0, count, kind);
        };
        Ok(jobs::run(job, &self.context(policy, full, &progress))?)
    }

    pub(super) fn context<'c>(
        &'c self,
        policy: Arc<Policy>,
        full: bool,
        progress: &'c (dyn Fn(&'static str, u64) + Sync),
    ) -> Context<'c> {
        Context {
            store: self.store,
            policy,
            data_dir: &self.common.data_dir,
            clock: clock::system(),
            instance: &self.instance,
            full,
            keep_days: self.keep_days.into(),
            progress,
        }
    }
}

fn start(
    store: &dyn JobStore,
    common: &Common,
    folder: &Path,
    keep_days: u16,
) -> anyhow::Result<()> {
    let work = Work { store, common, instance: instance(), keep_days };
    // A policy that cannot be read now is no reason to count by another one.
    let last = Mutex::new(policy(folder)?);
    let in_force = || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match policy(folder) {
            Ok(policy) => *last = policy,
            Err(error) => tracing::warn!(%error, "the policy before stays in force for jobs"),
        }
        last.clone()
    };
    let silent = |_: &'static str, _: u64| {};
    let stop = until_told()?;
    eprintln!("{}: waiting to lead; stop it with SIGTERM or Ctrl-C", work.instance);
    schedule::run(&|| work.context(in_force(), false, &silent), &stop, &|news| match news {
        News::Leads(true) => eprintln!("{}: leads, and runs all jobs from now on", work.instance),
        News::Leads(false) => eprintln!("{}: does not lead any more", work.instance),
        News::Ran(job, Ok(done)) => eprintln!("{}: {}", job.name(), brief(done)),
        News::Ran(job, Err(error)) => eprintln!("{}: failed: {error}", job.name()),
        News::Trouble(error) => eprintln!("{error}"),
    });
    Ok(())
}

/// Its other end is dropped when the process is told to stop.
fn until_told() -> anyhow::Result<Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (running, stop) = bounded::<()>(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        drop(running);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(stop)
}

fn list(out: &mut impl Write, store: &dyn JobStore, as_json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for job in Job::ALL {
        let last = store.runs(Some(job.name()), 1)?.pop();
        rows.push((job, last));
    }
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(job, last)| {
                json!({"name": job.name(), "about": job.about(), "last": last,
                    "every_seconds": job.every().as_secs()})
            })
            .collect();
        writeln!(out, "{}", json!(rows))?;
        return Ok(());
    }
    writeln!(out, "{:<24} {:>7}  {:<10} {:<22} what it does", "job", "every", "last", "at")?;
    for (job, last) in rows {
        let every = job.every().as_secs() / 60;
        let (outcome, at) = last.map_or_else(
            || ("never".to_owned(), String::new()),
            |run| (outcome(&run).to_owned(), moment(run.started_micros)),
        );
        let (name, about) = (job.name(), job.about());
        writeln!(out, "{name:<24} {every:>5} m  {outcome:<10} {at:<22} {about}")?;
    }
    Ok(())
}

fn history(out: &mut impl Write, runs: &[JobRun]) -> std::io::Result<()> {
    writeln!(out, "{:<22} {:<24} {:<8} {:>9}  by, and what", "started", "job", "outcome", "took")?;
    for run in runs {
        let took = run.finished_micros.map_or_else(String::new, |finished| {
            format!("{:.1} s", (finished - run.started_micros) as f64 / 1e6)
        });
        let (job, outcome, by) = (&run.job, outcome(run), &run.instance);
        let started = moment(run.started_micros);
        let what = brief(&run.detail);
        writeln!(out, "{started:<22} {job:<24} {outcome:<8} {took:>9}  {by}: {what}")?;
    }
    Ok(())
}

fn outcome(run: &JobRun) -> &str {
    run.outcome.as_deref().unwrap_or("runs")
}

fn moment(micros: i64) -> String {
    rfc3339_seconds(micros.div_euclid(1_000_000))
}

/// What a job said of its run, on one line: `events 12, products 3`.
fn brief(detail: &Value) -> String {
    let Some(fields) = detail.as_object() else { return String::new() };
    let plain = fields.iter().filter(|(_, value)| !value.is_null() && !value.is_object());
    let parts = plain.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}: {text}"),
        None => format!("{name} {value}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}
