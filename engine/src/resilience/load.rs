//! How much the engine does at once: an adaptive limit of answers in progress, in front of its queue.
//!
//! After Netflix' concurrency-limits, `Gradient2`: the limit is multiplied by a gradient, what an answer
//! may take over what it takes, and gets the square root of itself on top, so that it asks for more
//! until answers begin to wait. One thing is different. Gradient2 compares with a long average of the
//! same latencies, which an overload that lasts drags along with it. Our answers know how long they
//! waited for a ranking thread, since their work runs on threads of our own: each brings the
//! latency it would have had alone, and nothing has to be remembered or probed for. Ranking is bound by the
//! processor, so the limit settles where all threads are busy and little waits for them.
//!
//! Answers weigh what they cost. A slot is a search in full; other questions and cheaper modes take
//! the fraction that their time without waiting is of a search's, as measured: which part of an answer is the
//! expensive one differs too much between catalogues for fixed fractions.
//!
//! What is popular is answered without a ranking thread and says nothing about them, so it only weighs. A work
//! that failed or was given up gives its slot back and teaches nothing. An unused limit stays as it
//! is: that nothing waits while little is asked does not say that there is room for more.
//!
//! The state is behind one lock, held for the tenth of a microsecond that a few sums take, and decision and entry
//! are one step of it, so that requests which arrive together see each other.

mod costs;
mod limit;

pub use costs::Question;
pub use limit::Took;

use super::Mode;
use super::ladder::Usual;
use costs::Costs;
use limit::Limit;
use penstock_config::policy::LoadPolicy;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Slots are counted in thousandths, so that what is given back is what was taken.
const SLOT: f64 = 1_000.0;
/// Before anything was measured, so many searches per ranking thread.
const PER_WORKER: f64 = 4.0;

/// See the module.
#[derive(Debug)]
pub struct Load {
    state: Mutex<State>,
    origin: Instant,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    costs: Costs,
    /// In progress, thousandths of a slot.
    used: u64,
    /// In progress, answers.
    answers: usize,
    /// Of these, those nobody waits for.
    background: usize,
}

/// What is known of the load when a request comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Of the limit in use.
    pub utilisation: f64,
    /// What the question's answers usually take.
    pub usual: Usual,
}

/// For the status page and metrics.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Status {
    /// Searches in full at once.
    pub limit: f64,
    /// In progress, each as what it costs.
    pub in_flight: f64,
    /// Of the limit in use.
    pub utilisation: f64,
    /// Answers in progress.
    pub answers: usize,
    /// Of these, those nobody waits for.
    pub background: usize,
    /// A search in full without waiting, milliseconds; absent when there was none lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_ms: Option<f64>,
    /// What an answer waited for ranking threads lately, on average, milliseconds.
    pub waiting_ms: f64,
}

impl Load {
    /// Nothing is in progress; `workers` ranking threads.
    pub fn new(workers: usize, now: Instant) -> Arc<Self> {
        let state = State {
            limit: Limit::new(PER_WORKER * workers.max(1) as f64),
            costs: Costs::default(),
            used: 0,
            answers: 0,
            background: 0,
        };
        Arc::new(Self { state: Mutex::new(state), origin: now })
    }

    /// How it stands, for a question that is not entered.
    pub fn view(&self, policy: &LoadPolicy, question: Question, now: Instant) -> View {
        self.lock().view(policy, question, self.micros(now))
    }

    /// Enters a question in the mode that `decide` chooses, if it chooses one.
    pub fn enter<R>(
        self: &Arc<Self>,
        policy: &LoadPolicy,
        question: Question,
        now: Instant,
        decide: impl FnOnce(&View) -> Result<Mode, R>,
    ) -> Result<Leave, R> {
        let micros = self.micros(now);
        let mut state = self.lock();
        let mode = decide(&state.view(policy, question, micros))?;
        Ok(self.leave(&mut state, question, mode, now, false))
    }

    /// Enters work that nobody waits for, while little is in progress.
    pub fn try_background(
        self: &Arc<Self>,
        policy: &LoadPolicy,
        question: Question,
        mode: Mode,
        now: Instant,
    ) -> Option<Leave> {
        let mut state = self.lock();
        let room = state.utilisation(policy) < policy.background;
        room.then(|| self.leave(&mut state, question, mode, now, true))
    }

    /// Of the limit in use.
    pub fn utilisation(&self, policy: &LoadPolicy) -> f64 {
        self.lock().utilisation(policy)
    }

    /// How it stands.
    pub fn status(&self, policy: &LoadPolicy, now: Instant) -> Status {
        let micros = self.micros(now);
        let state = self.lock();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        Status {
            limit: state.limit.get(policy),
            in_flight: state.used as f64 / SLOT,
            utilisation: state.utilisation(policy),
            answers: state.answers,
            background: state.background,
            baseline_ms: state.costs.baseline(micros).map(millis),
            waiting_ms: millis(state.limit.waiting(micros)),
        }
    }

    fn leave(
        self: &Arc<Self>,
        state: &mut State,
        question: Question,
        mode: Mode,
        now: Instant,
        background: bool,
    ) -> Leave {
        let weight = (state.costs.weight(question, mode) * SLOT).ceil() as u64;
        state.used += weight;
        state.answers += 1;
        state.background += usize::from(background);
        state.limit.seen(state.used as f64 / SLOT);
        let load = Arc::clone(self);
        Leave { load, question, mode, weight, entered: now, background }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

impl State {
    fn utilisation(&self, policy: &LoadPolicy) -> f64 {
        self.used as f64 / SLOT / self.limit.get(policy)
    }

    fn view(&self, policy: &LoadPolicy, question: Question, now: u64) -> View {
        View { utilisation: self.utilisation(policy), usual: self.costs.usual(question, now) }
    }
}

/// Leave to compute one answer. Dropped without a word about it, it gives its place back and teaches nothing.
#[derive(Debug)]
pub struct Leave {
    load: Arc<Load>,
    question: Question,
    mode: Mode,
    weight: u64,
    entered: Instant,
    background: bool,
}

impl Leave {
    /// The mode it was entered in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The answer is there; of its time it spent `waited` on waiting for ranking threads.
    pub fn answered(self, policy: &LoadPolicy, now: Instant, waited: Duration) {
        let whole = now.saturating_duration_since(self.entered);
        let took = Took { whole, waited: waited.min(whole) };
        let micros = self.load.micros(now);
        let mut state = self.load.lock();
        state.costs.learn(self.question, self.mode, micros, took);
        if self.mode < Mode::Stale {
            state.limit.learn(policy, micros, took);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut state = self.load.lock();
        state.used -= self.weight;
        state.answers -= 1;
        state.background -= usize::from(self.background);
    }
}

#[cfg(test)]
mod tests;
