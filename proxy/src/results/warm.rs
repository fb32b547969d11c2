//! Answers made before they are asked for: the queries that are asked most, by this instance and the others, and
//! the popular products of each category. At the start, every few minutes, and when an operator says so.
//!
//! Warming takes a share of one thread's time and waits while requests do: it must never be noticed.

mod fleet;

use super::ask::Ask;
use super::popular_queries::{Asked, Sketch};
use super::remembered::Warmed;
use crate::app::App;
use crate::params;
use async_trait::async_trait;
use penstock_config::disk;
use penstock_config::policy::Policy;
use penstock_engine::query::Filter;
use penstock_engine::serve::ProductAsk;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Name of the file in the data folder.
const FILE: &str = "popular-queries.json";
/// Between two times that what was counted is written down and told the others: what a crash costs.
const KEEP: Duration = Duration::from_secs(60);
/// Counts are halved this often.
const AGE: Duration = Duration::from_secs(3_600);
/// Between two looks whether requests still wait.
const LOOK: Duration = Duration::from_millis(5);
/// Requests that wait for so long are not about to stop; the rest is for the next round.
const GIVE_WAY: Duration = Duration::from_secs(30);
/// Results when a client does not say how many.
const USUAL_K: usize = 10;

/// Why a round was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The process started.
    Start,
    /// It was time.
    Time,
    /// An operator said so.
    Operator,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Start, Self::Time, Self::Operator];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Time => "time",
            Self::Operator => "operator",
        }
    }
}

/// How a round stands, for the status page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Round {
    /// Why it was begun.
    pub occasion: Occasion,
    /// It goes on.
    pub running: bool,
    /// Answers it is about.
    pub total: usize,
    /// Of them, made.
    pub made: usize,
    /// Of them, there already.
    pub fresh: usize,
    /// Of them, not made: nothing was loaded, or the engine failed.
    pub failed: usize,
    /// Of them, not made because requests had too much to do.
    pub busy: usize,
    /// How long it took, or takes, milliseconds.
    pub took_ms: u64,
}

/// What is asked most, and how warming stands.
#[derive(Debug)]
pub struct Warming {
    sketch: Mutex<Sketch>,
    round: Mutex<Option<Round>>,
    wake: Notify,
    file: PathBuf,
}

impl Warming {
    /// With what was counted before, if it is in `data_dir`.
    pub fn kept_in(data_dir: &Path, policy: &Policy) -> Self {
        let file = data_dir.join(FILE);
        let mut sketch = Sketch::new(policy.cache.warming.remembered);
        let read = std::fs::read(&file).map_err(|error| error.to_string());
        match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())) {
            Ok(kept) => {
                let kept: Vec<Asked> = kept;
                kept.iter().for_each(|asked| sketch.add(&asked.target, asked.count, asked.error));
            }
            Err(error) if file.exists() => {
                tracing::warn!(file = %file.display(), error, "the counted queries cannot be read; counting begins anew");
            }
            Err(_) => {}
        }
        Self { sketch: Mutex::new(sketch), round: Mutex::default(), wake: Notify::new(), file }
    }

    /// `ask` was asked. On a busy instance some are not counted: what is asked most is asked often enough.
    pub fn count(&self, ask: &Ask) {
        let Some(target) = ask.target() else {
            return;
        };
        if let Ok(mut sketch) = self.sketch.try_lock() {
            sketch.count(&target);
        }
    }

    /// Begins a round soon.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The round that goes on, or the last one.
    pub fn round(&self) -> Option<Round> {
        lock(&self.round).clone()
    }

    /// What is asked most, as far as this instance knows.
    pub fn top(&self, most: usize) -> Vec<Asked> {
        lock(&self.sketch).top(most)
    }

    fn keep(&self) {
        let top = self.top(usize::MAX);
        let json = serde_json::to_vec(&top).expect("texts and numbers");
        if let Err(error) = disk::replace_unsynced(&self.file, &json) {
            tracing::error!(file = %self.file.display(), %error, "the counted queries cannot be kept for a restart");
        }
    }
}

/// Makes the rounds.
pub struct Warmer(pub Arc<App>);

#[async_trait]
impl BackgroundService for Warmer {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let app = &self.0;
        tokio::select! {
            () = self.work() => {}
            _ = shutdown.changed() => {}
        }
        app.warming.keep();
    }
}

impl Warmer {
    async fn work(&self) {
        let app = &self.0;
        while app.can_serve().is_err() {
            tokio::time::sleep(LOOK * 20).await;
        }
        if self.policy().cache.warming.at_start {
            self.round(Occasion::Start).await;
        }
        let began = app.clock.now();
        let (mut kept, mut aged, mut warmed) = (began, began, began);
        let mut heard = false;
        loop {
            let occasion = tokio::select! {
                () = app.warming.wake.notified() => Some(Occasion::Operator),
                () = tokio::time::sleep(Duration::from_secs(1)) => None,
            };
            let (now, policy) = (app.clock.now(), self.policy());
            app.caches.forget_switched_off(&policy);
            app.results.forget_switched_off(&policy);
            let hears = app.caches.log.status().hears;
            if hears && !std::mem::replace(&mut heard, hears) {
                // Into a Redis that is there now, or again.
                app.caches.remember_weights(&policy);
            }
            heard = hears;
            let due = |since: Instant, every| now.saturating_duration_since(since) >= every;
            if due(aged, AGE) {
                aged = now;
                lock(&app.warming.sketch).age();
            }
            if due(kept, KEEP) {
                kept = now;
                lock(&app.warming.sketch).resize(policy.cache.warming.remembered);
                app.warming.keep();
                self.tell(&policy).await;
            }
            let occasion = occasion
                .or_else(|| due(warmed, policy.cache.warming.every).then_some(Occasion::Time));
            if let Some(occasion) = occasion {
                self.round(occasion).await;
                warmed = app.clock.now();
            }
        }
    }

    fn policy(&self) -> Arc<Policy> {
        self.0.policies.current()
    }

    async fn round(&self, occasion: Occasion) {
        let (app, policy) = (&self.0, self.policy());
        if !(policy.cache.enabled
            && (policy.cache.warming.enabled || occasion == Occasion::Operator))
        {
            return;
        }
        app.caches.remember_weights(&policy);
        let mut asks = self.asks(&policy).await;
        asks.retain(|ask| app.results.remembers(&policy, ask));
        let began = app.clock.now();
        let elapsed = || app.clock.now().saturating_duration_since(began);
        let (total, running) = (asks.len(), true);
        *lock(&app.warming.round) = Some(Round {
            occasion,
            running,
            total,
            made: 0,
            fresh: 0,
            failed: 0,
            busy: 0,
            took_ms: 0,
        });
        app.metrics.layers.warming_began(occasion);
        let mut left = asks.len();
        for ask in asks {
            let warmed = self.warm(ask).await;
            left -= 1;
            app.metrics.layers.warmed(warmed);
            if let Some(round) = lock(&app.warming.round).as_mut() {
                match warmed {
                    Warmed::Made => round.made += 1,
                    Warmed::Fresh => round.fresh += 1,
                    Warmed::Failed => round.failed += 1,
                    Warmed::Busy => round.busy += 1,
                }
                round.took_ms = elapsed().as_millis() as u64;
            }
            if warmed == Warmed::Busy {
                // Requests do not stop: the rest is for the next round.
                if let Some(round) = lock(&app.warming.round).as_mut() {
                    round.busy += left;
                }
                break;
            }
        }
        if let Some(round) = lock(&app.warming.round).as_mut() {
            round.running = false;
            round.took_ms = elapsed().as_millis() as u64;
            tracing::info!(?round, "caches warmed");
        }
        app.metrics.layers.warming_ended(elapsed());
    }

    /// Makes one answer, then rests so that no more than its share of a thread's time is used. Gives way to
    /// requests until they have no more to do, but not for ever.
    async fn warm(&self, ask: Ask) -> Warmed {
        let app = &self.0;
        let until = app.clock.now() + GIVE_WAY;
        loop {
            // The policy may change meanwhile, and with it what an answer is.
            let (policy, began) = (self.policy(), app.clock.now());
            let warmed = super::remembered::warm(app, &policy, ask.clone()).await;
            let now = app.clock.now();
            match warmed {
                Warmed::Busy if now < until => tokio::time::sleep(LOOK).await,
                Warmed::Fresh => return warmed,
                _ => {
                    let took = now.saturating_duration_since(began);
                    tokio::time::sleep(took.mul_f64(1.0 / policy.cache.warming.share - 1.0)).await;
                    return warmed;
                }
            }
        }
    }

    /// What a round is about, most wanted first.
    async fn asks(&self, policy: &Policy) -> Vec<Ask> {
        let (app, warming) = (&self.0, &policy.cache.warming);
        let mut counts: HashMap<String, u64> = HashMap::new();
        let own = app.warming.top(warming.remembered);
        for asked in own.into_iter().chain(self.told(policy).await) {
            *counts.entry(asked.target).or_default() += asked.count;
        }
        let mut targets: Vec<(String, u64)> = counts.into_iter().collect();
        targets.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let queries = targets.iter().take(warming.queries).filter_map(|(target, _)| {
            let (_, query) = target.split_once('?')?;
            params::search(query.as_bytes(), policy.query.max_chars).ok().map(Ask::Search)
        });
        let mut asks: Vec<Ask> = queries.collect();
        let k = warming.products_per_category;
        if let (Ok(engine), true) = (app.engine.get(), k > 0) {
            let categories = engine.largest_categories(warming.categories);
            let filters = std::iter::once(None).chain(categories.into_iter().map(Some));
            for category in filters {
                let filter = Filter { category, ..Filter::default() };
                for k in [k, USUAL_K.min(k)] {
                    asks.push(Ask::Popular(ProductAsk {
                        k,
                        filter: filter.clone(),
                        ..ProductAsk::default()
                    }));
                }
            }
            asks.dedup();
        }
        asks
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_engine::serve::SearchAsk;

    #[test]
    fn what_was_counted_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let policy = Policy::default();
        let ask = |q: &str| Ask::Search(SearchAsk { q: q.into(), k: 10, ..SearchAsk::default() });
        let warming = Warming::kept_in(dir.path(), &policy);
        (0..3).for_each(|_| warming.count(&ask("Coffee  Mug")));
        warming.count(&ask("pan"));
        warming.keep();
        let again = Warming::kept_in(dir.path(), &policy);
        assert_eq!(again.top(9), warming.top(9));
        assert_eq!(again.top(1)[0].count, 3);
        std::fs::write(dir.path().join(FILE), b"[{").unwrap();
        assert_eq!(Warming::kept_in(dir.path(), &policy).top(9), []);
    }
}
