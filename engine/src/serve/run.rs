//! One request's walk through the engine: what it asks the pool and the store for, how long it
//! waits, and the record of both.

use super::candidates::Pool;
use super::snapshot::Snapshot;
use super::{Engine, EngineError, Outcome, RetrieverReport, Stage, Trace};
use crate::cache::Entry;
use crate::catalog::{Catalog, UserEvent};
use crate::features::FeatureBatch;
use crate::query::Filter;
use crate::rank::{Ranked, merge, rank};
use crate::resilience::{AtMost, Mode};
use crate::retrieve::{Allowed, Ask, Candidate, RetrieveError, Retriever, Source};
use penstock_config::clock::Clock;
use penstock_config::policy::{Policy, Ranking};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A user's events that are looked at.
pub(super) const HISTORY: usize = 200;
/// What an answer cannot do without is waited for this long: only a stuck engine takes it. The
/// deadlines of the policy are for what an answer can do without.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this a refused request may come again: the queue drains in far less.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Retrieved = (Result<Vec<Candidate>, RetrieveError>, u64);

/// A request under way.
pub(super) struct Run<'e> {
    pub engine: &'e Engine,
    pub policy: Arc<Policy>,
    pub snapshot: Arc<Snapshot>,
    /// The best mode wanted.
    pub most: AtMost,
    pub mode: Mode,
    /// Nothing remembered is used: the answer tells how it is made.
    pub anew: bool,
    pub trace: Trace,
    started: Instant,
    stage_started: Instant,
}

impl<'e> Run<'e> {
    /// Starts the clock and takes the snapshot that the request keeps to its end.
    pub fn start(
        engine: &'e Engine,
        policy: Arc<Policy>,
        most: &AtMost,
    ) -> Result<Self, EngineError> {
        let snapshot = engine.snapshot()?;
        let now = engine.clock().now();
        let trace = Trace {
            index_version: snapshot.index.version.clone(),
            catalog_revision: snapshot.catalog.revision(),
            ..Trace::default()
        };
        Ok(Self {
            engine,
            policy,
            snapshot,
            most: most.clone(),
            mode: Mode::Full,
            anew: false,
            trace,
            started: now,
            stage_started: now,
        })
    }

    /// The same; with `anew` nothing that is remembered is used.
    pub fn anew_if(self, anew: bool) -> Self {
        Self { anew, ..self }
    }

    /// Ends the stage that runs and starts the next.
    pub fn stage(&mut self, name: &'static str) {
        let now = self.engine.clock().now();
        let micros = micros(now.saturating_duration_since(self.stage_started));
        self.trace.stages.push(Stage { name, micros });
        self.stage_started = now;
    }

    /// Less was done than was asked.
    pub fn degrade(&mut self, mode: Mode, why: String) {
        self.mode = self.mode.max(mode);
        self.trace.degraded.push(why);
    }

    /// An empty question under this policy.
    pub fn ask(&self, k: usize) -> Ask {
        Ask {
            policy: self.policy.clone(),
            text: String::new(),
            history: Vec::new(),
            long_term: crate::features::Affinity::default(),
            like: None,
            allowed: None,
            k,
        }
    }

    /// The products that pass `filter`, found on a ranking thread: a large catalogue is a long walk.
    pub async fn allowed(&mut self, filter: &Filter) -> Result<Option<Arc<Allowed>>, EngineError> {
        if filter.is_empty() {
            return Ok(None);
        }
        let (snapshot, filter) = (self.snapshot.clone(), filter.clone());
        let work = move || snapshot.catalog.allowed(&filter).map(Arc::new);
        let max_queue = self.policy.resilience.max_queue;
        self.on_ranking_thread(max_queue, work).await
    }

    /// Does `work` on a ranking thread; refused when the queue is full.
    pub async fn on_ranking_thread<T: Send + 'static>(
        &mut self,
        max_queue: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let overloaded = || EngineError::Overloaded { retry_after: RETRY_AFTER };
        let clock = self.engine.clock().clone();
        let asked_at = clock.now();
        let work = move || timed(&*clock, work);
        let receiver = self.engine.pool().submit(max_queue, work).map_err(|_| overloaded())?;
        match timeout(PATIENCE, receiver).await {
            Ok(Ok((done, worked))) => {
                self.waited(asked_at, worked);
                Ok(done)
            }
            Ok(Err(_)) => Err(EngineError::Panicked),
            Err(_) => Err(overloaded()),
        }
    }

    /// Of the time since `asked_at` ranking threads worked so many microseconds; the rest was waiting.
    fn waited(&mut self, asked_at: Instant, worked: u64) {
        let since = micros(self.engine.clock().now().saturating_duration_since(asked_at));
        self.trace.waited_micros += since.saturating_sub(worked);
    }

    /// What is left of `limit`, and of the deadline of the whole request.
    pub fn left(&self, limit: Duration) -> Duration {
        let spent = self.engine.clock().now().saturating_duration_since(self.started);
        limit.min(self.policy.resilience.deadlines.request.saturating_sub(spent))
    }

    /// The user's latest events; none, and a lesser mode, when the store is late or failing.
    pub async fn history(&mut self, user_id: &str) -> Vec<UserEvent> {
        let events = self.read_history(user_id, HISTORY).await.unwrap_or_else(|why| {
            self.degrade(Mode::Unpersonalised, format!("history: {why}"));
            Vec::new()
        });
        self.stage("history");
        events
    }

    /// Asks `retrievers` in parallel. One that fails or is late is left out and reported. Refused only
    /// when none of them found a place in the queue.
    pub async fn retrieve(
        &mut self,
        ask: &Arc<Ask>,
        retrievers: Vec<Arc<dyn Retriever>>,
    ) -> Result<Vec<Vec<Candidate>>, EngineError> {
        let max_queue = self.policy.resilience.max_queue;
        let mut asked = Vec::new();
        for retriever in retrievers {
            let source = retriever.source();
            let (ask, clock) = (ask.clone(), self.engine.clock().clone());
            let work = move || timed(&*clock, || retriever.retrieve(&ask));
            asked.push((source, self.engine.pool().submit(max_queue, work).ok()));
        }
        if !asked.is_empty() && asked.iter().all(|(_, receiver)| receiver.is_none()) {
            return Err(EngineError::Overloaded { retry_after: RETRY_AFTER });
        }
        let mut lists = Vec::new();
        let (mut longest, mut all) = (0, 0);
        let asked_at = self.engine.clock().now();
        let limit = self.left(self.policy.resilience.deadlines.retrieve);
        for (source, receiver) in asked {
            let wait = match source {
                // The last resort: without it there is nothing to answer.
                Source::Popular => PATIENCE,
                // All were asked at the same moment.
                _ => limit.saturating_sub(self.engine.clock().now() - asked_at),
            };
            let (list, outcome, micros) = await_one(receiver, wait).await;
            // Late while others wait, it most likely waited itself; else it is slow.
            if outcome != Outcome::Late || self.engine.pool().waiting() == 0 {
                longest = micros.max(longest);
                all += micros;
            }
            self.trace.retrievers.push(RetrieverReport { source, outcome, micros });
            lists.extend(list);
        }
        // With few threads they cannot all run side by side.
        self.waited(asked_at, longest.max(all / self.engine.pool().workers() as u64));
        self.stage("retrieve");
        Ok(lists)
    }

    /// What is popular for this question: the last resort, and the answer of those who ask for it.
    pub async fn popular(&mut self, ask: &Arc<Ask>) -> Result<Vec<Vec<Candidate>>, EngineError> {
        let retriever = self.snapshot.retriever(Source::Popular).cloned();
        self.retrieve(ask, retriever.into_iter().collect()).await
    }

    /// Joins the lists and fetches the features of all candidates at once, then orders them; on a ranking thread.
    /// Gives what was ordered, too.
    pub async fn rank(
        &mut self,
        ask: &Arc<Ask>,
        lists: Vec<Vec<Candidate>>,
    ) -> Result<(Vec<Ranked>, Arc<Pool>), EngineError> {
        let (snapshot, ask) = (self.snapshot.clone(), ask.clone());
        let clock = self.engine.clock().clone();
        let reports = self.trace.retrievers.iter();
        let took_part: Vec<Source> = reports
            .filter(|report| matches!(report.outcome, Outcome::Found { .. }))
            .map(|report| report.source)
            .filter(|source| matches!(source, Source::Keyword | Source::Semantic))
            .collect();
        let work = move || {
            let gather = || gather(&snapshot, &ask, &lists, &took_part, clock.unix_micros());
            let (pool, features) = timed(&*clock, gather);
            let (ranked, ranking) =
                timed(&*clock, || order(&pool, &snapshot.catalog, &ask.policy.ranking));
            (ranked, Arc::new(pool), features, ranking)
        };
        // Retrieval has been paid for: rank it even if the queue has filled up meanwhile.
        let (ranked, pool, features, ranking) = self.on_ranking_thread(usize::MAX, work).await?;
        self.trace.stages.push(Stage { name: "features", micros: features });
        self.trace.stages.push(Stage { name: "rank", micros: ranking });
        self.stage_started = self.engine.clock().now();
        Ok((ranked, pool))
    }

    /// Orders candidates that are remembered; on a ranking thread.
    pub async fn rank_again(&mut self, pool: Arc<Entry<Pool>>) -> Result<Vec<Ranked>, EngineError> {
        let (snapshot, policy) = (self.snapshot.clone(), self.policy.clone());
        let work = move || order(&pool.value, &snapshot.catalog, &policy.ranking);
        let ranked = self.on_ranking_thread(self.policy.resilience.max_queue, work).await?;
        self.stage("rank");
        Ok(ranked)
    }
}

async fn await_one(
    receiver: Option<oneshot::Receiver<Retrieved>>,
    wait: Duration,
) -> (Option<Vec<Candidate>>, Outcome, u64) {
    let failed = |why: &str| Outcome::Failed { why: why.to_owned() };
    let Some(receiver) = receiver else {
        return (None, failed("the ranking queue is full"), 0);
    };
    match timeout(wait, receiver).await {
        Ok(Ok((Ok(list), micros))) => {
            let candidates = list.len();
            (Some(list), Outcome::Found { candidates }, micros)
        }
        Ok(Ok((Err(error), micros))) => (None, failed(&error.to_string()), micros),
        Ok(Err(_)) => (None, failed("it panicked; see the log"), 0),
        Err(_) => (None, Outcome::Late, micros(wait)),
    }
}

fn timed<T>(clock: &dyn Clock, work: impl FnOnce() -> T) -> (T, u64) {
    let start = clock.now();
    let result = work();
    (result, micros(clock.now().saturating_duration_since(start)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Everything ranking needs to know of the candidates.
fn gather(
    snapshot: &Snapshot,
    ask: &Ask,
    lists: &[Vec<Candidate>],
    took_part: &[Source],
    now_micros: i64,
) -> Pool {
    let mut matches = merge(lists.iter().map(Vec::as_slice));
    matches.retain(|(ordinal, _)| Some(*ordinal) != ask.like);
    if let [_, _] = took_part {
        took_part.iter().for_each(|source| complete(snapshot, ask, *source, &mut matches));
    }
    let ordinals = matches.iter().map(|(ordinal, _)| *ordinal);
    let half_life = ask.policy.ranking.freshness_half_life;
    let now = now_micros / 1_000_000;
    let features =
        FeatureBatch::fetch(ordinals, &snapshot.catalog, &snapshot.popularity, now, half_life);
    Pool { matches, features }
}

fn order(pool: &Pool, catalog: &Catalog, ranking: &Ranking) -> Vec<Ranked> {
    rank(&pool.matches, &pool.features, catalog, ranking)
}

/// A product that only one retriever brought has a score with the other, too; without it, fusion would
/// take "not among the first hundred" for "nothing in common".
fn complete(
    snapshot: &Snapshot,
    ask: &Ask,
    source: Source,
    matches: &mut [(crate::catalog::Ordinal, crate::rank::Match)],
) {
    let Some(retriever) = snapshot.retriever(source) else {
        return;
    };
    let missing: Vec<usize> =
        (0..matches.len()).filter(|index| matches[*index].1.of(source).is_none()).collect();
    let ordinals: Vec<_> = missing.iter().map(|index| matches[*index].0).collect();
    for (index, candidate) in missing.into_iter().zip(retriever.scores(ask, &ordinals)) {
        *matches[index].1.of_mut(source) =
            candidate.map(|candidate| crate::rank::Found { candidate, rank: 0 });
    }
}
