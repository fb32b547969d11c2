//! The breaker: one for Redis, PostgreSQL, replicas, upstreams and whatever else may fail.
//!
//! A dependency that fails is left alone for a while instead of being waited for. When it opens,
//! for how long and how it closes again is policy (`[breaker]` in `resilience.toml`), passed in
//! with each call, so that a change is in force with the next one. Only the dependency's own
//! failures count: what the caller did wrong or gave up says [`Permit::not_its_fault`].
//!
//! Nothing here locks. A call through a closed breaker costs two loads before and a load, a
//! comparison and an addition after ([`state`]).

mod permit;
mod state;
mod trial;
mod window;
mod word;

/// What the state machine is made of; the loom test puts its own here.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use permit::Permit;
pub use state::Forced;
pub use window::Counts;
pub use word::{State, Trip};

use penstock_config::clock::Clock;
use penstock_config::policy::BreakerPolicy;
use state::{Change, Core, Token, Verdict};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A breaker in front of one dependency.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    origin: Instant,
    core: Core,
    /// For the status page: when the state began (milliseconds), how often it opened.
    since: AtomicU64,
    opened: AtomicU64,
}

/// Leave to make one call, without a hold on the breaker it is from.
#[derive(Debug)]
#[must_use = "a call of which nothing is said counts for nothing"]
pub struct Ticket(Option<Token>);

/// The call was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open: {}; it is tried again in {retry_after:?}", .trip.text())]
pub struct Open {
    /// When asking again may help; at least a millisecond.
    pub retry_after: Duration,
    /// Why it is open.
    pub trip: Trip,
}

/// A breaker as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The dependency.
    pub name: String,
    /// What calls meet now, with `forced` taken into account.
    pub state: State,
    /// What an operator said.
    pub forced: Option<Forced>,
    /// Why it is not closed.
    pub trip: Option<Trip>,
    /// How long the state beneath `forced` has lasted.
    pub lasted: Duration,
    /// Open: until the next probe.
    pub retry_after: Option<Duration>,
    /// Failures in a row, while closed.
    pub consecutive_failures: u32,
    /// The last minute's calls, while closed.
    pub counts: Counts,
    /// How often it opened since it was made.
    pub opened: u64,
}

impl Breaker {
    /// A closed breaker in front of the dependency `name`, as it is called in logs and metrics.
    pub fn new(name: impl Into<String>, now: Instant) -> Self {
        Self {
            name: name.into(),
            origin: now,
            core: Core::new(),
            since: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// The dependency.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leave to make one call, or why not.
    pub fn permit<'a>(
        &'a self,
        policy: &'a BreakerPolicy,
        now: Instant,
    ) -> Result<Permit<'a>, Open> {
        let now = self.millis(now);
        let changed = |change| self.changed(change, now);
        match self.core.permit(policy, now, &rand::random::<f64>, &changed) {
            Ok(token) => Ok(Permit::new(self, policy, token)),
            Err(refusal) => Err(Open {
                retry_after: Duration::from_millis(refusal.retry_after.max(1)),
                trip: refusal.trip,
            }),
        }
    }

    /// As [`Breaker::permit`], for a caller that keeps it in a place of its own. Nothing is settled when
    /// it is dropped: a probe that is never settled fails when its time is over.
    pub fn ticket(&self, policy: &BreakerPolicy, now: Instant) -> Result<Ticket, Open> {
        let mut permit = self.permit(policy, now)?;
        Ok(Ticket(permit.take()))
    }

    /// What came of the call of a ticket: `Some(true)`: it did what it was asked; `Some(false)`: it failed, by
    /// its own fault; `None`: the call says nothing about it.
    pub fn settled(
        &self,
        policy: &BreakerPolicy,
        ticket: Ticket,
        worked: Option<bool>,
        now: Instant,
    ) {
        let Some(token) = ticket.0 else { return };
        let verdict = match worked {
            Some(true) => Verdict::Good,
            Some(false) => Verdict::Failed,
            None => Verdict::NotItsFault,
        };
        self.settle(policy, token, verdict, self.millis(now));
    }

    /// Makes a call through the breaker. `work` must end by itself (it has a deadline): when the
    /// returned future is dropped instead, the caller went away, which is not the dependency's
    /// fault. `is_its_fault` says of an error whether it counts.
    pub async fn call<T, E>(
        &self,
        policy: &BreakerPolicy,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, E>>,
        is_its_fault: impl FnOnce(&E) -> bool,
    ) -> Result<Result<T, E>, Open> {
        let mut held = Held(Some(self.permit(policy, clock.now())?));
        let result = work.await;
        if let Some(permit) = held.0.take() {
            match &result {
                Ok(_) => permit.succeeded(clock.now()),
                Err(error) if is_its_fault(error) => permit.failed(clock.now()),
                // It answered; but a half-open breaker closes by what it did, not by what it refused.
                Err(_) => permit.not_its_fault(),
            }
        }
        Ok(result)
    }

    /// Holds it open or closed whatever happens, or lets it go. In force with the next call.
    pub fn force(&self, forced: Option<Forced>) {
        let before = self.core.force(forced);
        if before != forced {
            let name = &self.name;
            match forced {
                Some(Forced::Open) => tracing::warn!(dependency = name, "breaker forced open"),
                Some(Forced::Closed) => tracing::warn!(dependency = name, "breaker forced closed"),
                None => tracing::info!(dependency = name, "breaker no longer forced"),
            }
        }
    }

    /// Somebody saw it work: an open breaker need not wait any longer before it is tried.
    pub fn try_soon(&self, now: Instant) {
        let now = self.millis(now);
        self.core.try_soon(now, &|change| self.changed(change, now));
    }

    /// What calls meet now. Cheaper than [`Breaker::status`]: for metrics and decision records.
    pub fn state(&self) -> State {
        match self.core.forced() {
            Some(Forced::Open) => State::Open,
            Some(Forced::Closed) => State::Closed,
            None => self.core.word().state(),
        }
    }

    /// An operator keeps every call from it.
    pub fn is_forced_open(&self) -> bool {
        self.core.forced() == Some(Forced::Open)
    }

    /// No call passes now, and it is not yet time to try one.
    pub fn is_shut(&self, now: Instant) -> bool {
        match self.core.forced() {
            Some(forced) => forced == Forced::Open,
            None => {
                let word = self.core.word();
                word.state() == State::Open && self.millis(now) < word.at()
            }
        }
    }

    /// Everything an operator wants to know.
    pub fn status(&self, now: Instant) -> Status {
        let now = self.millis(now);
        let word = self.core.word();
        let forced = self.core.forced();
        let (consecutive_failures, counts) = self.core.counts(now);
        let trip = match forced {
            Some(Forced::Open) => Some(Trip::Forced),
            Some(Forced::Closed) => None,
            None => word.trip(),
        };
        let waiting = forced.is_none() && word.state() == State::Open;
        let since = self.since.load(Ordering::Relaxed);
        Status {
            name: self.name.clone(),
            state: self.state(),
            forced,
            trip,
            lasted: Duration::from_millis(now.saturating_sub(since)),
            retry_after: waiting.then(|| Duration::from_millis(word.at().saturating_sub(now))),
            consecutive_failures,
            counts,
            opened: self.opened.load(Ordering::Relaxed),
        }
    }

    fn settle(&self, policy: &BreakerPolicy, token: Token, verdict: Verdict, now: u64) {
        let changed = |change| self.changed(change, now);
        self.core.settle(policy, token, verdict, now, &rand::random::<f64>, &changed);
    }

    fn changed(&self, change: Change, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        let name = &self.name;
        let why = change.trip.map_or("", Trip::text);
        match change.to {
            State::Open => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                let open = Duration::from_millis(change.open);
                tracing::warn!(dependency = name, reason = why, ?open, "breaker opened");
            }
            State::HalfOpen => {
                tracing::info!(dependency = name, "breaker half-open: trying it again");
            }
            State::Closed => {
                tracing::info!(dependency = name, was = why, "breaker closed: it works again");
            }
        }
    }

    /// Since the breaker was made. A time before that is that moment.
    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }
}

/// A permit whose caller may go away.
struct Held<'a>(Option<Permit<'a>>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.not_its_fault();
        }
    }
}
