//! Making one answer: for a request, for all who ask the same at the same time, or for nobody.

use super::ask::{self, Ask};
use super::body::Body;
use super::compute::{compute, late};
use super::ladder::Step;
use super::served::{Landed, Served, passed_by, remembered, served};
use crate::app::App;
use crate::context::Context;
use crate::decision::{Cache, CacheOutcome};
use crate::respond::{Kind, Problem};
use penstock_config::policy::{Policy, ResultCache};
use penstock_engine::cache::{
    Arrival, Boarding, CacheKind, Entry, Found, Freshness, Hit, Key, Leader, Lives, Tiered,
};
use penstock_engine::resilience::Mode;
use penstock_engine::serve::{Answer, Engine, Made};
use penstock_engine::trace;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

const MADE_NOW: Cache = Cache { outcome: CacheOutcome::Miss, why: "made now" };
/// How often a request boards again when a flight ends without landing.
const ATTEMPTS: usize = 3;

/// What a flight lands with.
pub(super) type Landing = Result<Landed, Problem>;

/// A question with everything that making its answer takes.
#[derive(Clone)]
pub(super) struct Job {
    pub app: Arc<App>,
    pub engine: Arc<Engine>,
    pub policy: Arc<Policy>,
    pub ask: Ask,
    pub key: Key,
    pub made: Made,
    pub user: Option<String>,
    pub patience: Duration,
}

impl Job {
    pub fn cache(&self) -> &Tiered<Body> {
        self.app.results.of(self.key.kind())
    }

    /// What was made from a user's history is good for others who have the same history.
    fn may_share(&self) -> bool {
        self.user.is_none() || self.engine.shares_histories()
    }

    pub fn holds(&self, entry: &Entry<Body>) -> bool {
        self.cache().holds(&self.key, entry)
    }

    /// Makes the answer or joins whoever does. `spare`: one past its life that will do when there is much to do.
    pub async fn fly(
        self,
        ctx: &mut Context,
        spare: Option<&Hit<Body>>,
    ) -> Result<Served, Problem> {
        for _ in 0..ATTEMPTS {
            match self.app.results.flights.board(self.key.text()) {
                Boarding::Lead(leader) => return self.lead(ctx, leader, spare).await,
                Boarding::Join(joined) => match joined.answer(self.patience).await {
                    // Begun before something changed that this request was sent after: once more.
                    Arrival::Landed(Ok(landed)) if !self.holds(landed.entry()) => {}
                    Arrival::Landed(Ok(Landed::Made(entry, _))) => {
                        let why = "made for another request at the same time";
                        let cache = Cache { outcome: CacheOutcome::Miss, why };
                        let body = entry.value.clone();
                        return Ok(Served { body, cache, trace: None, stale: false });
                    }
                    Arrival::Landed(landing) => {
                        return landing.map(|landed| served(landed, MADE_NOW));
                    }
                    Arrival::Gone => {}
                    Arrival::Late => return Err(late()),
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
        // What changed meanwhile is not served, whatever there is to do.
        let spare = spare.filter(|hit| self.holds(&hit.entry));
        let step = match self.app.ladder.enter(&self.app, ctx, spare.is_some()) {
            Ok(step) => step,
            Err(problem) => {
                self.cache().release(&self.policy, &self.key);
                leader.land(Err(problem.clone()));
                return Err(problem);
            }
        };
        if let (Mode::Stale, Some(hit)) = (step.most().mode, spare) {
            self.cache().release(&self.policy, &self.key);
            leader.land(Ok(Landed::Remembered(hit.clone())));
            return Ok(remembered(hit.clone(), "past its life; there is much to do"));
        }
        let flight = tokio::spawn(trace::within(trace::current(), self.land(leader, step)));
        let landing = flight.await.map_err(|_| bug())?;
        landing.map(|landed| served(landed, MADE_NOW))
    }

    /// Makes the answer, which no client can cancel by going away, and lands with it.
    async fn land(self, leader: Leader<Landing>, step: Step) -> Landing {
        let landing = self.make(step, true).await;
        if landing.is_err() {
            self.cache().release(&self.policy, &self.key);
        }
        leader.land(landing.clone());
        landing
    }

    /// For a client that is over a limit which degrades: what is remembered is free; else the cheapest. Nobody else
    /// is given it.
    pub async fn capped(
        self,
        ctx: &mut Context,
        spare: Option<Hit<Body>>,
    ) -> Result<Served, Problem> {
        let step = self.app.ladder.enter(&self.app, ctx, spare.is_some())?;
        if let (Mode::Stale, Some(hit)) = (step.most().mode, spare) {
            return Ok(remembered(hit, "past its life; the client is over a limit"));
        }
        let Self { app, engine, policy, ask, patience, .. } = &self;
        let answer = compute(app, engine, policy, ask, step, *patience).await?;
        Ok(passed_by(answer, "the client is over a limit"))
    }

    /// Makes it anew behind everybody's back, unless somebody does or there is much to do.
    pub fn refresh_unless(&self, capped: bool) {
        if capped {
            return;
        }
        // Asked first: who finds a flight joins it.
        let step = self.app.ladder.try_background(&self.app, &self.policy, self.ask.endpoint());
        let leader = step.and_then(|step| {
            let leader = self.app.results.flights.lead(self.key.text())?;
            Some((leader, step))
        });
        if let Some((leader, step)) = leader {
            tokio::spawn(self.clone().remake(leader, step));
        }
    }

    /// Takes a new one from Redis, or makes it.
    pub async fn remake(self, leader: Leader<Landing>, step: Step) -> Landing {
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
        if !self.may_share() {
            return None;
        }
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
    pub async fn make(&self, step: Step, share: bool) -> Landing {
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
        let share = share && !degraded && !stranger && self.may_share();
        let entry = if stranger || (degraded && cache.has(&self.key)) {
            // Neither may one that was made with less take the place of a whole one, old as that is.
            Arc::new(entry)
        } else {
            cache.put(&self.policy, &self.key, entry, share)
        };
        if !share || !self.holds(&entry) {
            // Nothing comes into Redis for whoever waits there.
            cache.release(&self.policy, &self.key);
        }
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
