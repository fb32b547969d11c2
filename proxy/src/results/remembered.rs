//! Answers that are remembered, and how one is made where none is.
//!
//! A request takes an answer from memory, or boards the flight of its key: the first makes it (or finds it in
//! Redis, or has another instance make it) on a task of its own, which no client can cancel by going away; all
//! others are given what it lands with. An answer near its end is served and made anew behind the request's back;
//! one whose life is over is served while that happens; and one that is older still is kept for when no answer can
//! be made.

use super::ask::{self, Ask};
use super::body::Body;
use crate::app::App;
use crate::decision::{Cache, CacheOutcome};
use crate::respond::{Kind, Problem};
use penstock_config::policy::{Policy, ResultCache};
use penstock_engine::cache::{
    Boarding, CacheKind, Entry, Flights, Found, Freshness, Hit, Key, Leader, Lives, Tier, Tiered,
};
use penstock_engine::serve::{Answer, Caches, Engine, Made, Trace};
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

/// How often a request boards again when a flight ends without landing.
const ATTEMPTS: usize = 3;

/// What a flight lands with.
type Landing = Result<Landed, Problem>;

/// The result caches of this process.
pub struct Results {
    answers: Tiered<Body>,
    popular: Tiered<Body>,
    flights: Flights<Landing>,
}

/// An answer, and how it came about.
#[derive(Clone)]
pub enum Landed {
    /// It was remembered.
    Remembered(Hit<Body>),
    /// It was made.
    Made(Arc<Entry<Body>>, Arc<Trace>),
}

/// An answer for a request.
pub struct Served {
    /// It.
    pub body: Body,
    /// Where it came from.
    pub cache: Cache,
    /// How it was made, if it was made for this request.
    pub trace: Option<Arc<Trace>>,
    /// It is past its life.
    pub stale: bool,
}

/// A question with everything that making its answer takes.
#[derive(Clone)]
struct Job {
    app: Arc<App>,
    engine: Arc<Engine>,
    policy: Arc<Policy>,
    ask: Ask,
    key: Key,
    made: Made,
    user: Option<String>,
    patience: Duration,
}

impl Results {
    /// Empty ones over the ledger of `caches`.
    pub fn new(caches: &Caches, policy: &Policy) -> Self {
        Self {
            answers: caches.layer(CacheKind::Results, policy),
            popular: caches.layer(CacheKind::Popular, policy),
            flights: Flights::default(),
        }
    }

    fn of(&self, kind: CacheKind) -> &Tiered<Body> {
        if kind == CacheKind::Popular { &self.popular } else { &self.answers }
    }

    /// Bytes and entries in memory.
    pub fn held(&self) -> [(CacheKind, u64, usize); 2] {
        let of = |cache: &Tiered<Body>| {
            let (bytes, entries) = cache.held();
            (cache.kind(), bytes, entries)
        };
        [of(&self.answers), of(&self.popular)]
    }

    /// Answers being made.
    pub fn under_way(&self) -> usize {
        self.flights.under_way()
    }
}

/// The answer to `ask`: remembered, or made. `anew`: one that was made before is not wanted.
pub async fn serve(
    app: &Arc<App>,
    policy: &Arc<Policy>,
    ask: Ask,
    anew: bool,
    patience: Duration,
) -> Result<Served, Problem> {
    let engine = app.engine.get()?.clone();
    app.warming.count(&ask);
    let kind = ask.kind();
    let cache = app.results.of(kind);
    let made = engine.versions(policy).filter(|_| cache.is_on(policy));
    let Some(made) = made else {
        let answer = put(&engine, policy, ask, patience).await?;
        let why = if cache.is_on(policy) { "nothing is loaded" } else { "switched off" };
        let body = Body::of(&answer, ask::bytes(&answer));
        let trace = Some(Arc::new(answer.trace));
        let cache = Cache { outcome: CacheOutcome::Bypass, why };
        return Ok(Served { body, cache, trace, stale: false });
    };
    let (key, user) = ask.key(&engine, policy, &made).await;
    let job =
        Job { app: app.clone(), engine, policy: policy.clone(), ask, key, made, user, patience };
    if anew {
        let landed = job.clone().make(false).await?;
        return Ok(served(landed, Cache { outcome: CacheOutcome::Bypass, why: "asked for anew" }));
    }
    let mut spare = None;
    if let Some(hit) = cache.get_local(policy, &job.key) {
        let age = &policy.cache.results;
        match hit.freshness {
            Freshness::Fresh => return Ok(remembered(hit, "")),
            Freshness::Aging => {
                job.refresh();
                return Ok(remembered(hit, "near its end; made anew in the background"));
            }
            Freshness::Stale(since) if since < age.stale_while_revalidate => {
                job.refresh();
                return Ok(remembered(hit, "past its life; made anew in the background"));
            }
            Freshness::Stale(since) => spare = (since < age.stale_if_error).then_some(hit),
        }
    }
    match job.fly().await {
        Err(problem) if problem.kind.status() >= 500 && spare.is_some() => {
            let hit = spare.expect("looked at in the guard");
            Ok(remembered(hit, "past its life; no other could be made"))
        }
        landed => landed,
    }
}

/// What became of warming one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmed {
    /// It was made, or found in Redis.
    Made,
    /// It was in memory and is not near its end.
    Fresh,
    /// It could not be made.
    Failed,
}

impl Warmed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Made, Self::Fresh, Self::Failed];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Fresh => "fresh",
            Self::Failed => "failed",
        }
    }
}

/// Makes the answer to `ask`, unless it is there or being made.
pub async fn warm(app: &Arc<App>, policy: &Arc<Policy>, ask: Ask) -> Warmed {
    let Ok(engine) = app.engine.get().cloned() else {
        return Warmed::Failed;
    };
    let cache = app.results.of(ask.kind());
    let Some(made) = engine.versions(policy).filter(|_| cache.is_on(policy)) else {
        return Warmed::Failed;
    };
    let (key, user) = ask.key(&engine, policy, &made).await;
    if cache.is_fresh(&key) {
        return Warmed::Fresh;
    }
    let patience = policy.resilience.deadlines.request;
    let job =
        Job { app: app.clone(), engine, policy: policy.clone(), ask, key, made, user, patience };
    let Some(leader) = app.results.flights.lead(job.key.text()) else {
        return Warmed::Fresh;
    };
    match job.lead(leader, true).await {
        Ok(_) => Warmed::Made,
        Err(_) => Warmed::Failed,
    }
}

impl Job {
    fn cache(&self) -> &Tiered<Body> {
        self.app.results.of(self.key.kind())
    }

    /// Makes the answer or joins whoever does.
    async fn fly(self) -> Result<Served, Problem> {
        let flights = &self.app.results.flights;
        for _ in 0..ATTEMPTS {
            match flights.board(self.key.text()) {
                Boarding::Lead(leader) => {
                    let flight = tokio::spawn(self.clone().lead(leader, true));
                    let landing = flight.await.map_err(|_| bug())?;
                    return landing.map(|landed| {
                        served(landed, Cache { outcome: CacheOutcome::Miss, why: "made now" })
                    });
                }
                Boarding::Join(joined) => match joined.answer(self.patience).await {
                    Some(Ok(Landed::Made(entry, _))) => {
                        let cache = Cache {
                            outcome: CacheOutcome::Miss,
                            why: "made for another request at the same time",
                        };
                        let body = entry.value.clone();
                        return Ok(Served { body, cache, trace: None, stale: false });
                    }
                    Some(landing) => {
                        let miss = Cache { outcome: CacheOutcome::Miss, why: "made now" };
                        return landing.map(|landed| served(landed, miss));
                    }
                    None => {}
                },
            }
        }
        Err(late())
    }

    /// Makes it anew behind everybody's back, unless somebody does.
    fn refresh(&self) {
        if let Some(leader) = self.app.results.flights.lead(self.key.text()) {
            tokio::spawn(self.clone().lead(leader, false));
        }
    }

    /// `aging_will_do`: one in Redis that is near its end is good enough.
    async fn lead(self, leader: Leader<Landing>, aging_will_do: bool) -> Landing {
        let landing = match self.elsewhere(aging_will_do).await {
            Some(hit) => Ok(Landed::Remembered(hit)),
            None => self.make(true).await,
        };
        leader.land(landing.clone());
        landing
    }

    /// What Redis has, or what another instance makes meanwhile.
    async fn elsewhere(&self, aging_will_do: bool) -> Option<Hit<Body>> {
        let good = |hit: &Hit<Body>| match hit.freshness {
            Freshness::Fresh => true,
            Freshness::Aging => aging_will_do,
            Freshness::Stale(_) => false,
        };
        let (cache, policy) = (self.cache(), &*self.policy);
        let lease = policy.cache.results.lease;
        match cache.get_or_lease(policy, &self.key, lease).await {
            Found::Hit(hit) => good(&hit).then_some(hit),
            Found::Mine => None,
            Found::Elsewhere => cache.get_awaited(policy, &self.key, lease).await.filter(good),
        }
    }

    /// Makes it; `share`: others may have it, too.
    async fn make(self, share: bool) -> Landing {
        let cache = self.cache();
        // Before the engine looks at anything: what changes from now on is not in the answer for sure.
        let mark = cache.mark(self.made.revision);
        let began = self.app.clock.unix_micros() / 1_000;
        let answer = put(&self.engine, &self.policy, self.ask.clone(), self.patience).await?;
        let degraded = self.ask.is_degraded(&answer, self.made.best);
        let lives = lives(&self.policy, self.key.kind(), &answer, began, degraded);
        let tags = self.ask.tags(&answer, self.user.as_deref());
        let value = Body::of(&answer, ask::bytes(&answer));
        let entry = Entry { value, lives, tags, mark };
        // Another index came into force meanwhile: under this key it would be a stranger.
        let entry = if answer.trace.index_version == self.made.index {
            cache.put(&self.policy, &self.key, entry, share && !degraded)
        } else {
            Arc::new(entry)
        };
        Ok(Landed::Made(entry, Arc::new(answer.trace)))
    }
}

/// How long an answer is remembered.
fn lives(policy: &Policy, kind: CacheKind, answer: &Answer, began: i64, degraded: bool) -> Lives {
    let results = &policy.cache.results;
    let ResultCache { jitter, refresh_ahead, .. } = *results;
    if degraded {
        return Lives::plain(began, results.degraded_ttl);
    }
    let ttl = match kind {
        _ if answer.items.is_empty() => results.empty_ttl,
        CacheKind::Popular => policy.cache.popular.ttl,
        _ => results.ttl,
    };
    let keep = results.stale_while_revalidate.max(results.stale_if_error);
    Lives::new(began, ttl, keep, (jitter, rand::rng().random()), refresh_ahead)
}

/// Asks the engine, and waits at most `patience`: it has its own deadlines, so this only passes when it is stuck.
async fn put(
    engine: &Engine,
    policy: &Arc<Policy>,
    ask: Ask,
    patience: Duration,
) -> Result<Answer, Problem> {
    match tokio::time::timeout(patience, ask.put(engine, policy.clone())).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            tracing::error!(?patience, "the engine did not come back");
            Err(late())
        }
    }
}

fn late() -> Problem {
    Problem::new(Kind::EngineLate, "the ranking engine did not answer in time")
        .retry_after(Duration::from_secs(1))
}

fn bug() -> Problem {
    Problem::new(Kind::Internal, "this is a bug; the trace id helps to find it")
}

fn remembered(hit: Hit<Body>, why: &'static str) -> Served {
    let outcome = match (hit.freshness, hit.tier) {
        (Freshness::Stale(_), _) => CacheOutcome::Stale,
        (_, Tier::L1) => CacheOutcome::HitL1,
        (_, Tier::L2) => CacheOutcome::HitL2,
    };
    let stale = outcome == CacheOutcome::Stale;
    Served { body: hit.entry.value.clone(), cache: Cache { outcome, why }, trace: None, stale }
}

fn served(landed: Landed, if_made: Cache) -> Served {
    match landed {
        Landed::Remembered(hit) => remembered(hit, ""),
        Landed::Made(entry, trace) => {
            Served { body: entry.value.clone(), cache: if_made, trace: Some(trace), stale: false }
        }
    }
}
