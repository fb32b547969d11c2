//! Answers that are remembered, and how one is made where none is.
//!
//! A request takes an answer from memory, or boards the flight of its key: the first makes it (or finds it in
//! Redis, or has another instance make it) on a task of its own, which no client can cancel by going away; all
//! others are given what it lands with. An answer near its end is served and made anew behind the request's back;
//! one whose life is over is served while that happens; and one that is older still is kept for when no answer can
//! be made.

use super::ask::{self, Ask};
use super::body::Body;
use super::compute::{compute, late};
use super::ladder::Step;
use crate::app::App;
use crate::context::Context;
use crate::decision::{Cache, CacheOutcome};
use crate::respond::{Kind, Problem};
use penstock_config::policy::{Policy, ResultCache};
use penstock_engine::cache::{
    Boarding, CacheKind, Entry, Flights, Found, Freshness, Hit, Key, Leader, Lives, Tier, Tiered,
};
use penstock_engine::resilience::Mode;
use penstock_engine::serve::{Answer, Caches, Engine, Made, Trace};
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

const MADE_NOW: Cache = Cache { outcome: CacheOutcome::Miss, why: "made now" };
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

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fresh {
    /// One that is remembered will do.
    Whatever,
    /// Made for this request; others may have it.
    Anew,
    /// Made for this request and kept nowhere.
    Unkept,
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

    /// Whether the layer of `ask` is on.
    pub fn remembers(&self, policy: &Policy, ask: &Ask) -> bool {
        self.of(ask.kind()).is_on(policy)
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

/// The answer to `ask`: remembered, or made.
pub async fn serve(
    app: &Arc<App>,
    ctx: &mut Context,
    mut ask: Ask,
    fresh: Fresh,
    patience: Duration,
) -> Result<Served, Problem> {
    let engine = app.engine.get()?.clone();
    app.warming.count(&ask);
    if fresh > Fresh::Whatever {
        ask.make_anew();
    }
    let policy = ctx.policy.clone();
    let cache = app.results.of(ask.kind());
    let remembers = cache.is_on(&policy) && fresh < Fresh::Unkept;
    let made = engine.versions(&policy).filter(|_| remembers);
    let Some(made) = made else {
        let why = match fresh {
            Fresh::Unkept => "not to be kept",
            _ if cache.is_on(&policy) => "nothing is loaded",
            _ => "switched off",
        };
        let step = app.ladder.enter(app, ctx, false)?;
        let answer = Box::pin(compute(app, &engine, &policy, &ask, step, patience)).await?;
        return Ok(passed_by(answer, why));
    };
    let (key, user) = ask.key(&engine, &policy, &made).await;
    let job = Job { app: app.clone(), engine, policy, ask, key, made, user, patience };
    if fresh == Fresh::Anew {
        let step = app.ladder.enter(app, ctx, false)?;
        let landed = Box::pin(job.make(step, false)).await?;
        return Ok(served(landed, Cache { outcome: CacheOutcome::Bypass, why: "asked for anew" }));
    }
    let mut spare = None;
    if let Some(hit) = job.cache().get_local(&job.policy, &job.key) {
        let age = &job.policy.cache.results;
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
    if ctx.cap > Mode::Full {
        return Box::pin(job.capped(ctx, spare)).await;
    }
    // Boxed, as all that is not a hit: a future has the size of its largest part.
    match (Box::pin(job.clone().fly(ctx, spare.as_ref())).await, spare) {
        // What changed meanwhile is not served, whatever the trouble.
        (Err(problem), Some(hit)) if problem.kind.status() >= 500 && job.holds(&hit.entry) => {
            Ok(remembered(hit, "past its life; no other could be made"))
        }
        (served, _) => served,
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
    /// Requests had too much to do for it.
    Busy,
}

impl Warmed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Made, Self::Fresh, Self::Failed, Self::Busy];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Fresh => "fresh",
            Self::Failed => "failed",
            Self::Busy => "busy",
        }
    }
}

/// Makes the answer to `ask`, unless it is there or being made.
pub async fn warm(app: &Arc<App>, policy: &Arc<Policy>, mut ask: Ask) -> Warmed {
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
    let Some(leader) = app.results.flights.lead(key.text()) else {
        return Warmed::Fresh;
    };
    let Some(step) = app.ladder.try_background(app, policy, ask.endpoint()) else {
        return Warmed::Busy;
    };
    // Requests may join.
    let patience = policy.resilience.deadlines.request * super::PATIENCE;
    let policy = policy.clone();
    let job = Job { app: app.clone(), engine, policy, ask, key, made, user, patience };
    match job.remake(leader, step).await {
        Ok(_) => Warmed::Made,
        Err(_) => Warmed::Failed,
    }
}

impl Landed {
    fn entry(&self) -> &Entry<Body> {
        match self {
            Self::Remembered(hit) => &hit.entry,
            Self::Made(entry, _) => entry,
        }
    }
}

impl Job {
    fn cache(&self) -> &Tiered<Body> {
        self.app.results.of(self.key.kind())
    }

    fn holds(&self, entry: &Entry<Body>) -> bool {
        self.cache().holds(&self.key, entry)
    }

    /// Makes the answer or joins whoever does. `spare`: one past its life that will do when there is much to do.
    async fn fly(self, ctx: &mut Context, spare: Option<&Hit<Body>>) -> Result<Served, Problem> {
        for _ in 0..ATTEMPTS {
            match self.app.results.flights.board(self.key.text()) {
                Boarding::Lead(leader) => return self.lead(ctx, leader, spare).await,
                Boarding::Join(joined) => match joined.answer(self.patience).await {
                    // Begun before something changed that this request was sent after: once more.
                    Some(Ok(landed)) if !self.holds(landed.entry()) => {}
                    Some(Ok(Landed::Made(entry, _))) => {
                        let why = "made for another request at the same time";
                        let cache = Cache { outcome: CacheOutcome::Miss, why };
                        let body = entry.value.clone();
                        return Ok(Served { body, cache, trace: None, stale: false });
                    }
                    Some(landing) => return landing.map(|landed| served(landed, MADE_NOW)),
                    None => {}
                },
            }
        }
        Err(late())
    }

    /// Leads the flight.
    async fn lead(
        self,
        ctx: &mut Context,
        leader: Leader<Landing>,
        spare: Option<&Hit<Body>>,
    ) -> Result<Served, Problem> {
        // Dropped on the way when the client goes: whoever joined boards again.
        if let Some(hit) = self.elsewhere(true).await {
            leader.land(Ok(Landed::Remembered(hit.clone())));
            return Ok(remembered(hit, ""));
        }
        let step = match self.app.ladder.enter(&self.app, ctx, spare.is_some()) {
            Ok(step) => step,
            Err(problem) => {
                leader.land(Err(problem.clone()));
                return Err(problem);
            }
        };
        let spare = spare.filter(|hit| self.holds(&hit.entry));
        if let (Mode::Stale, Some(hit)) = (step.most().mode, spare) {
            leader.land(Ok(Landed::Remembered(hit.clone())));
            return Ok(remembered(hit.clone(), "past its life; there is much to do"));
        }
        let flight = tokio::spawn(self.land(leader, step));
        let landing = flight.await.map_err(|_| bug())?;
        landing.map(|landed| served(landed, MADE_NOW))
    }

    /// Makes the answer, which no client can cancel by going away, and lands with it.
    async fn land(self, leader: Leader<Landing>, step: Step) -> Landing {
        let landing = self.make(step, true).await;
        leader.land(landing.clone());
        landing
    }

    /// For a client that is over a limit which degrades: what is remembered is free; else the cheapest. Nobody else
    /// is given it.
    async fn capped(self, ctx: &mut Context, spare: Option<Hit<Body>>) -> Result<Served, Problem> {
        let step = self.app.ladder.enter(&self.app, ctx, spare.is_some())?;
        if let (Mode::Stale, Some(hit)) = (step.most().mode, spare) {
            return Ok(remembered(hit, "past its life; the client is over a limit"));
        }
        let Self { app, engine, policy, ask, patience, .. } = &self;
        let answer = compute(app, engine, policy, ask, step, *patience).await?;
        Ok(passed_by(answer, "the client is over a limit"))
    }

    /// Makes it anew behind everybody's back, unless somebody does or there is much to do.
    fn refresh(&self) {
        let Some(leader) = self.app.results.flights.lead(self.key.text()) else {
            return;
        };
        let step = self.app.ladder.try_background(&self.app, &self.policy, self.ask.endpoint());
        if let Some(step) = step {
            tokio::spawn(self.clone().remake(leader, step));
        }
    }

    /// Takes a new one from Redis, or makes it.
    async fn remake(self, leader: Leader<Landing>, step: Step) -> Landing {
        match self.elsewhere(false).await {
            Some(hit) => {
                leader.land(Ok(Landed::Remembered(hit.clone())));
                Ok(Landed::Remembered(hit))
            }
            None => self.land(leader, step).await,
        }
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
        let mine = match cache.get_or_lease(policy, &self.key, lease).await {
            Found::Hit(hit) if good(&hit) => return Some(hit),
            // The lease is only given with nothing in its place.
            Found::Hit(_) => cache.lease(policy, &self.key, lease).await,
            Found::Mine => true,
            Found::Elsewhere => false,
        };
        if mine {
            return None;
        }
        cache.get_awaited(policy, &self.key, lease, good).await
    }

    /// Makes it; `share`: others may have it, too.
    async fn make(&self, step: Step, share: bool) -> Landing {
        let cache = self.cache();
        // Before the engine looks at anything: what changes from now on is not in the answer for sure.
        let mark = cache.mark(self.made.revision);
        let began = self.app.clock.unix_micros() / 1_000;
        let Self { app, engine, policy, ask, patience, .. } = self;
        let answer = compute(app, engine, policy, ask, step, *patience).await?;
        let degraded = self.ask.is_degraded(&answer, self.made.best);
        let lives = lives(&self.policy, self.key.kind(), &answer, began, degraded);
        let tags = self.ask.tags(&answer, self.user.as_deref());
        let value = Body::of(&answer, ask::bytes(&answer));
        let entry = Entry { value, lives, tags, mark };
        // Another index came into force meanwhile: under this key it would be a stranger.
        let stranger = answer.trace.index_version != self.made.index;
        let entry = if stranger || (degraded && cache.has(&self.key)) {
            // Neither may one that was made with less take the place of a whole one, old as that is.
            Arc::new(entry)
        } else {
            cache.put(&self.policy, &self.key, entry, share && !degraded)
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

fn bug() -> Problem {
    Problem::new(Kind::Internal, "this is a bug; the trace id helps to find it")
}

/// An answer that no cache had a part in.
fn passed_by(answer: Answer, why: &'static str) -> Served {
    let body = Body::of(&answer, ask::bytes(&answer));
    let cache = Cache { outcome: CacheOutcome::Bypass, why };
    Served { body, cache, trace: Some(Arc::new(answer.trace)), stale: false }
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
