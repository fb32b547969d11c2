//! Where the engine's time goes: one question at a time, microseconds per stage, over the
//! catalogues in `PENSTOCK_BENCH_DATA` (data folders, separated by `:`). `make bench` prepares them.

mod workload;

use hdrhistogram::Histogram;
use penstock_config::clock;
use penstock_config::policy::Policy;
use penstock_engine::serve::{Answer, Engine, EngineError, Options, RecommendAsk, SearchAsk};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use workload::{Workload, zipf};

/// Questions before measuring begins: pages of the index are in memory after them.
const WARM_UP: usize = 300;
/// Questions measured, per kind.
const QUESTIONS: usize = 3_000;
/// The same questions in every run.
const SEED: u64 = 20_260_725;

fn main() -> anyhow::Result<()> {
    let Ok(folders) = std::env::var("PENSTOCK_BENCH_DATA") else {
        println!("skipped: needs PENSTOCK_BENCH_DATA; `make bench` prepares it");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("## Engine: microseconds per stage\n");
    println!("One question at a time, {QUESTIONS} of each kind after {WARM_UP} to warm up.\n");
    for folder in folders.split(':') {
        runtime.block_on(catalogue(Path::new(folder)))?;
    }
    Ok(())
}

async fn catalogue(folder: &Path) -> anyhow::Result<()> {
    let workload = Workload::read(folder, SEED)?;
    let policy = Arc::new(Policy::default());
    let options = Options {
        data_dir: folder.to_owned(),
        embedding_model: None,
        workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        clock: clock::system(),
        caches: None,
    };
    let engine = Engine::open(options, policy.clone())?;
    let status = engine.status();
    anyhow::ensure!(status.ready, "{}: {:?}", folder.display(), status.notes);

    let mut search = Times::default();
    for (asked, query) in zipf(&workload.queries, WARM_UP + QUESTIONS, SEED).into_iter().enumerate()
    {
        let ask = SearchAsk { q: query.to_owned(), k: 10, ..SearchAsk::default() };
        let begun = clock::now();
        let answer = engine.search(policy.clone(), ask).await;
        search.add(asked >= WARM_UP, begun.elapsed().as_micros() as u64, answer)?;
    }
    let mut recommend = Times::default();
    if !workload.users.is_empty() {
        for (asked, user) in
            zipf(&workload.users, WARM_UP + QUESTIONS, SEED).into_iter().enumerate()
        {
            let ask = RecommendAsk { user_id: user.to_owned(), k: 10, ..RecommendAsk::default() };
            let begun = clock::now();
            let answer = engine.recommend(policy.clone(), ask).await;
            recommend.add(asked >= WARM_UP, begun.elapsed().as_micros() as u64, answer)?;
        }
    }

    let name = folder.file_name().map_or_else(|| "demo".into(), |name| name.to_string_lossy());
    let name = if name == "data" { "demo".into() } else { name };
    println!("### {name}: {} products\n", workload.products);
    println!("Modes: search {}, recommend {}.\n", search.modes(), recommend.modes());
    println!("| stage | search p50 | p99 | recommend p50 | p99 |");
    println!("|---|---:|---:|---:|---:|");
    let mut stages = search.order.clone();
    stages.extend(recommend.order.iter().filter(|stage| !search.order.contains(stage)).cloned());
    for stage in &stages {
        println!("| {stage} | {} | {} |", search.cells(stage), recommend.cells(stage));
    }
    println!();
    Ok(())
}

/// Microseconds by stage.
#[derive(Default)]
struct Times {
    order: Vec<String>,
    by_stage: BTreeMap<String, Histogram<u64>>,
    modes: BTreeMap<String, usize>,
}

impl Times {
    fn add(
        &mut self,
        counts: bool,
        total: u64,
        answer: Result<Answer, EngineError>,
    ) -> anyhow::Result<()> {
        let answer = answer?;
        if !counts {
            return Ok(());
        }
        *self.modes.entry(answer.mode.name().to_owned()).or_default() += 1;
        for stage in &answer.trace.stages {
            self.record(stage.name.to_owned(), stage.micros)?;
            if stage.name == "retrieve" {
                for report in &answer.trace.retrievers {
                    self.record(format!("… {}", report.source.name()), report.micros)?;
                }
            }
        }
        self.record("**whole answer**".to_owned(), total)
    }

    fn record(&mut self, stage: String, micros: u64) -> anyhow::Result<()> {
        if !self.by_stage.contains_key(&stage) {
            self.order.push(stage.clone());
            self.by_stage.insert(stage.clone(), Histogram::new(3)?);
        }
        if let Some(histogram) = self.by_stage.get_mut(&stage) {
            histogram.record(micros)?;
        }
        Ok(())
    }

    fn cells(&self, stage: &str) -> String {
        self.by_stage.get(stage).map_or_else(
            || "– | –".to_owned(),
            |times| format!("{} | {}", times.value_at_quantile(0.5), times.value_at_quantile(0.99)),
        )
    }

    fn modes(&self) -> String {
        let modes: Vec<String> =
            self.modes.iter().map(|(mode, count)| format!("{mode} {count}")).collect();
        if modes.is_empty() { "not asked (no users)".to_owned() } else { modes.join(", ") }
    }
}
