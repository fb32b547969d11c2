//! Answers that are remembered, and how one is made where none is.
//!
//! A request takes an answer from memory, or boards the flight of its key: the first makes it (or finds it in
//! Redis, or has another instance make it) on a task of its own, which no client can cancel by going away; all
//! others are given what it lands with. An answer near its end is served and made anew behind the request's back;
//! one whose life is over is served while that happens; and one that is older still is kept for when no answer can
//! be made.

use super::ask::Ask;
use super::body::Body;
use super::compute::compute;
use super::job::{Job, Landing};
use super::served::{Fresh, Served, passed_by, remembered, served};
use crate::app::App;
use crate::context::Context;
use crate::decision::{Cache, CacheOutcome};
use crate::respond::Problem;
use penstock_config::policy::Policy;
use penstock_engine::cache::{CacheKind, Flights, Freshness, Tiered};
use penstock_engine::resilience::Mode;
use penstock_engine::serve::Caches;
use std::sync::Arc;
use std::time::Duration;

/// The result caches of this process.
pub struct Results {
    answers: Tiered<Body>,
    popular: Tiered<Body>,
    pub(super) flights: Flights<Landing>,
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

    pub(super) fn of(&self, kind: CacheKind) -> &Tiered<Body> {
        if kind == CacheKind::Popular { &self.popular } else { &self.answers }
    }

    /// Whether the layer of `ask` is on.
    pub fn remembers(&self, policy: &Policy, ask: &Ask) -> bool {
        self.of(ask.kind()).is_on(policy)
    }

    /// Forgets what layers hold that `policy` has switched off.
    pub fn forget_switched_off(&self, policy: &Policy) {
        self.answers.forget_if_off(policy);
        self.popular.forget_if_off(policy);
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
    // Over a limit that degrades nothing is computed but the cheapest, whatever is wished.
    let capped = ctx.cap > Mode::Full;
    let fresh = if capped { Fresh::Whatever } else { fresh };
    if !capped {
        app.warming.count(&ask);
    }
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
    let (key, user) = ask.key(&engine, &policy, &made, capped).await;
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
                job.refresh_unless(capped);
                return Ok(remembered(hit, "near its end; made anew in the background"));
            }
            Freshness::Stale(since) if since < age.stale_while_revalidate => {
                job.refresh_unless(capped);
                return Ok(remembered(hit, "past its life; made anew in the background"));
            }
            Freshness::Stale(since) => spare = (since < age.stale_if_error).then_some(hit),
        }
    }
    if capped {
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
    /// It was in memory and is not near its end, or it is being made.
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
pub(super) async fn warm(app: &Arc<App>, policy: &Arc<Policy>, mut ask: Ask) -> Warmed {
    let Ok(engine) = app.engine.get().cloned() else {
        return Warmed::Failed;
    };
    let cache = app.results.of(ask.kind());
    let Some(made) = engine.versions(policy).filter(|_| cache.is_on(policy)) else {
        return Warmed::Failed;
    };
    let (key, user) = ask.key(&engine, policy, &made, false).await;
    if cache.needs_nothing(&key) {
        return Warmed::Fresh;
    }
    let Some(step) = app.ladder.try_background(app, policy, ask.endpoint()) else {
        return Warmed::Busy;
    };
    let Some(leader) = app.results.flights.lead(key.text()) else {
        return Warmed::Fresh;
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
