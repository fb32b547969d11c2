//! The ladder in front of the engine: how much is done for a request, and its place in the load.
//!
//! Whoever is about to compute enters here first, on behalf of a request ([`Ladder::enter`]) or of nobody
//! ([`Ladder::try_background`]), and keeps the [`Step`] until the answer is there.

use crate::app::App;
use crate::context::Context;
use crate::decision::Rung;
use crate::respond::{Kind, Problem};
use crate::route::Endpoint;
use penstock_config::policy::Policy;
use penstock_engine::resilience::ladder::{Situation, Verdict, Why, decide};
use penstock_engine::resilience::load::{self, Leave, Question, View};
use penstock_engine::resilience::{AtMost, Load, Mode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An overload that fills the last rung is over in seconds or lasts for minutes; one second is for the first.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub struct Ladder {
    load: Arc<Load>,
}

/// Leave to compute one answer. Dropped without it, it gives its place back.
#[must_use = "its place in the load is held as long as it lives"]
pub struct Step {
    leave: Leave,
    most: AtMost,
}

impl Step {
    /// What to ask the engine for. [`Mode::Stale`]: the older answer, which the caller said there is.
    pub fn most(&self) -> &AtMost {
        &self.most
    }

    /// The answer is there; of its time it spent `waited_micros` on waiting for ranking threads
    /// (`trace.waited_micros`).
    pub fn answered(self, app: &App, policy: &Policy, waited_micros: u64) {
        let waited = Duration::from_micros(waited_micros);
        self.leave.answered(&policy.resilience.load, app.clock.now(), waited);
    }
}

/// What kind of question an endpoint answers; `None`: it does not rank.
fn question_of(endpoint: Endpoint) -> Option<Question> {
    match endpoint {
        Endpoint::Search | Endpoint::Explain => Some(Question::Search),
        Endpoint::Recommend => Some(Question::Recommend),
        Endpoint::Similar => Some(Question::Similar),
        Endpoint::Popular => Some(Question::Popular),
        Endpoint::Product | Endpoint::Events | Endpoint::Health | Endpoint::Upstream => None,
    }
}

impl Ladder {
    /// Nothing is being computed; `workers` ranking threads.
    pub fn new(workers: usize, now: Instant) -> Self {
        Self { load: Load::new(workers, now) }
    }

    /// Decides how much to do for a request, enters it and notes it. `stale`: there is an older answer
    /// that may be served. The error: there is no room for anything.
    pub fn enter(&self, app: &App, ctx: &mut Context, stale: bool) -> Result<Step, Problem> {
        let endpoint = ctx.decision.route;
        let question = question_of(endpoint).unwrap_or(Question::Search);
        let policy = &ctx.policy.resilience.load;
        let now = app.clock.now();
        let calm = situation(app, ctx, stale, now);
        let mut seen = (Why::Nothing, 0.0);
        let decided = self.load.enter(policy, question, now, |view| {
            let Verdict::Answer { mode, why } = decide(policy, &calm.under(view)) else {
                return Err(view.utilisation);
            };
            seen = (why, view.utilisation);
            Ok(mode)
        });
        let (why, utilisation) = seen;
        match decided {
            Ok(leave) => {
                let mode = leave.mode();
                app.metrics.load.chosen(endpoint, mode, why);
                let most = if why == Why::Nothing {
                    AtMost::default()
                } else {
                    ctx.decision.ladder = Some(Rung::new(mode.name(), why, utilisation));
                    AtMost::new(mode, words(why, utilisation))
                };
                Ok(Step { leave, most })
            }
            Err(utilisation) => {
                app.metrics.load.refused(endpoint);
                ctx.decision.ladder = Some(Rung::new("refused", Why::Load, utilisation));
                let detail = "the ranking engine has more to do than it can; ask again in a second";
                Err(Problem::new(Kind::Overloaded, detail).retry_after(RETRY_AFTER))
            }
        }
    }

    /// An older answer to this request, if there is one, is better now than a new one.
    pub fn prefers_stale(&self, app: &App, ctx: &Context) -> bool {
        let question = question_of(ctx.decision.route).unwrap_or(Question::Search);
        let policy = &ctx.policy.resilience.load;
        let now = app.clock.now();
        let view = self.load.view(policy, question, now);
        let verdict = decide(policy, &situation(app, ctx, true, now).under(&view));
        matches!(verdict, Verdict::Answer { mode: Mode::Stale, .. })
    }

    /// Leave to compute an answer that nobody waits for, in full; `None` while there is much to do.
    pub fn try_background(&self, app: &App, policy: &Policy, endpoint: Endpoint) -> Option<Step> {
        let question = question_of(endpoint)?;
        let now = app.clock.now();
        let load = &policy.resilience.load;
        let leave = self.load.try_background(load, question, Mode::Full, now)?;
        Some(Step { leave, most: AtMost::default() })
    }

    /// The engine took a request and had no place for it, or did not come back: what is asked for instead.
    pub fn gave_up(app: &App, endpoint: Endpoint) -> AtMost {
        app.metrics.load.chosen(endpoint, Mode::Popular, Why::Load);
        AtMost::new(Mode::Popular, "load: the engine had no thread for a better answer")
    }

    /// How it stands, under the policy in force.
    pub fn status(&self, app: &App) -> load::Status {
        self.load.status(&app.policies.current().resilience.load, app.clock.now())
    }
}

/// What is known of a request but for the load.
struct Calm(Situation);

impl Calm {
    fn under(&self, view: &View) -> Situation {
        Situation { utilisation: view.utilisation, usual: view.usual, ..self.0 }
    }
}

fn situation(app: &App, ctx: &Context, stale: bool, now: Instant) -> Calm {
    let shut = |engine: &penstock_engine::serve::Engine| engine.store_breaker().is_shut(now);
    let personal = ctx.decision.route == Endpoint::Recommend;
    let spent = now.saturating_duration_since(ctx.began);
    Calm(Situation {
        utilisation: 0.0,
        usual: Default::default(),
        left: ctx.policy.resilience.deadlines.request.saturating_sub(spent),
        history_is_shut: personal && app.engine.get().is_ok_and(|engine| shut(engine)),
        stale,
        cap: ctx.cap,
    })
}

fn words(why: Why, utilisation: f64) -> String {
    match why {
        Why::Nothing => String::new(),
        Why::Load => format!("load: {:.0} % of the limit was in use", utilisation * 100.0),
        Why::Limit => "limit: the client is over a limit that degrades".into(),
        Why::Time => "time: a better answer would not have been there before the deadline".into(),
        Why::Store => "store: its breaker is open".into(),
    }
}

#[cfg(test)]
mod tests;
