//! The state machine: atomics in, verdicts out. Time is milliseconds since the breaker was made,
//! chance is a number the caller drew; nothing here waits, locks or logs.
//!
//! ```text
//! closed ── failures in a row, or a share of the minute's calls failed or slow ──► open
//! open ── its time is over, and somebody calls ──► half-open
//! half-open ── enough successes ──► closed
//! half-open ── a failure, a slow answer, a probe without verdict ──► open, for longer
//! ```

use super::sync::{AtomicU8, AtomicU64, Ordering};
use super::trial::{Lot, Trial};
use super::window::{Counts, Stamped, Window};
use super::word::{State, Trip, Word};
use penstock_config::policy::BreakerPolicy;
use std::time::Duration;

/// What an operator said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Forced {
    /// No call passes.
    Open = 1,
    /// Every call passes, and none counts.
    Closed = 2,
}

/// Leave to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    generation: u64,
    /// When the call began, milliseconds.
    pub started: u64,
}

/// No leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Milliseconds.
    pub retry_after: u64,
    pub trip: Trip,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Failed,
    NotItsFault,
}

/// A transition, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
    /// Why it is (or was) not closed.
    pub trip: Option<Trip>,
    /// How long it stays open, milliseconds; else 0.
    pub open: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    word: AtomicU64,
    forced: AtomicU8,
    streak: Stamped,
    trial: AtomicU64,
    window: Window,
}

impl Core {
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(Word::new().0),
            forced: AtomicU8::new(0),
            streak: Stamped::new(),
            trial: AtomicU64::new(0),
            window: Window::new(),
        }
    }

    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    pub fn forced(&self) -> Option<Forced> {
        match self.forced.load(Ordering::Relaxed) {
            1 => Some(Forced::Open),
            2 => Some(Forced::Closed),
            _ => None,
        }
    }

    /// What was forced before.
    pub fn force(&self, forced: Option<Forced>) -> Option<Forced> {
        let before = self.forced();
        self.forced.store(forced.map_or(0, |forced| forced as u8), Ordering::Relaxed);
        before
    }

    /// Failures in a row and the counts of the last minute, of the present closed state.
    pub fn counts(&self, now: u64) -> (u32, Counts) {
        let generation = self.word().generation();
        (self.streak.get(generation as u32), self.window.sum(generation, now))
    }

    /// An open breaker is half-open from now on.
    pub fn try_soon(&self, now: u64, changed: &dyn Fn(Change)) {
        let word = self.word();
        if word.state() == State::Open {
            self.shift(word, word.half_opened(now), now, changed);
        }
    }

    /// `Ok(None)`: leave whose verdict does not count. `draw` is in [0, 1).
    pub fn permit(
        &self,
        policy: &BreakerPolicy,
        now: u64,
        draw: &dyn Fn() -> f64,
        changed: &dyn Fn(Change),
    ) -> Result<Option<Token>, Refusal> {
        match self.forced() {
            Some(Forced::Closed) => return Ok(None),
            Some(Forced::Open) => {
                return Err(Refusal { retry_after: millis(policy.open), trip: Trip::Forced });
            }
            None => {}
        }
        loop {
            let word = self.word();
            match word.state() {
                State::Closed => {
                    return Ok(Some(Token { generation: word.generation(), started: now }));
                }
                State::Open if now < word.at() => {
                    let trip = word.trip().unwrap_or(Trip::ErrorRate);
                    return Err(Refusal { retry_after: word.at() - now, trip });
                }
                State::Open => {
                    self.shift(word, word.half_opened(now), now, changed);
                }
                State::HalfOpen => {
                    if let Some(verdict) = self.probe(policy, word, now, draw, changed) {
                        return verdict;
                    }
                }
            }
        }
    }

    /// `None`: the state changed meanwhile.
    fn probe(
        &self,
        policy: &BreakerPolicy,
        word: Word,
        now: u64,
        draw: &dyn Fn() -> f64,
        changed: &dyn Fn(Change),
    ) -> Option<Result<Option<Token>, Refusal>> {
        let drawn = draw();
        let since = now.saturating_sub(word.at());
        let mut packed = self.trial.load(Ordering::Acquire);
        loop {
            match Trial::of(word, packed)?.draw(policy, since, drawn) {
                Lot::Stuck => {
                    self.reopen(policy, word, Trip::ProbeStuck, now, draw(), changed);
                    return None;
                }
                Lot::Refused(retry_after) => {
                    let trip = word.trip().unwrap_or(Trip::ErrorRate);
                    return Some(Err(Refusal { retry_after, trip }));
                }
                Lot::Passes(next) => match self.swap_trial(packed, next) {
                    Ok(()) => {
                        let generation = word.generation();
                        return Some(Ok(Some(Token { generation, started: now })));
                    }
                    Err(current) => packed = current,
                },
            }
        }
    }

    /// A verdict on the call that `token` let pass. One that comes after the state has changed
    /// says nothing about the new state and is ignored.
    pub fn settle(
        &self,
        policy: &BreakerPolicy,
        token: Token,
        verdict: Verdict,
        now: u64,
        draw: &dyn Fn() -> f64,
        changed: &dyn Fn(Change),
    ) {
        let word = self.word();
        if word.generation() != token.generation {
            return;
        }
        let slow = now.saturating_sub(token.started) > millis(policy.slow_call);
        match (word.state(), verdict) {
            // No permit was ever given in this generation.
            (State::Open, _) | (State::Closed, Verdict::NotItsFault) => {}
            (State::Closed, verdict) => {
                let failed = verdict == Verdict::Failed;
                if let Some(trip) = self.count(policy, word, now, failed, slow) {
                    let until = now + millis(policy.open);
                    self.shift(word, word.opened(trip, until), now, changed);
                }
            }
            (State::HalfOpen, Verdict::NotItsFault) => {
                self.update_trial(word, Trial::returned);
            }
            (State::HalfOpen, Verdict::Good) if !slow => {
                let since = now.saturating_sub(word.at());
                let trial = self.update_trial(word, |trial| trial.succeeded(since));
                if trial.is_some_and(|trial| trial.good >= u64::from(policy.close_after)) {
                    self.shift(word, word.closed(now), now, changed);
                }
            }
            (State::HalfOpen, Verdict::Good | Verdict::Failed) => {
                self.reopen(policy, word, Trip::ProbeFailed, now, draw(), changed);
            }
        }
    }

    /// Counts a call while closed. The shares are looked at when a call was bad: a good one cannot
    /// be what opens a breaker, and is the one that must cost nothing.
    fn count(
        &self,
        policy: &BreakerPolicy,
        word: Word,
        now: u64,
        failed: bool,
        slow: bool,
    ) -> Option<Trip> {
        let generation = word.generation();
        self.window.add(generation, now, failed, slow);
        if failed {
            if self.streak.add(generation as u32) >= policy.consecutive_failures {
                return Some(Trip::ConsecutiveFailures);
            }
        } else {
            self.streak.reset(generation as u32);
        }
        if !failed && !slow {
            return None;
        }
        let counts = self.window.sum(generation, now);
        let share = |part: u32| f64::from(part) / f64::from(counts.calls.max(1));
        if counts.calls < policy.min_calls {
            None
        } else if failed && share(counts.failures) >= policy.error_rate {
            Some(Trip::ErrorRate)
        } else if slow && share(counts.slow) >= policy.slow_rate {
            Some(Trip::SlowCalls)
        } else {
            None
        }
    }

    fn reopen(
        &self,
        policy: &BreakerPolicy,
        word: Word,
        trip: Trip,
        now: u64,
        draw: f64,
        changed: &dyn Fn(Change),
    ) {
        let until = now + reopen_for(policy, word.reopened() + 1, draw);
        self.shift(word, word.reopened_until(trip, until), now, changed);
    }

    /// The one place where the state changes; who loses the race changes nothing.
    fn shift(&self, from: Word, to: Word, now: u64, changed: &dyn Fn(Change)) {
        let swapped = self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire);
        if swapped.is_ok() {
            let open = if to.state() == State::Open { to.at().saturating_sub(now) } else { 0 };
            let trip = to.trip().or(from.trip());
            changed(Change { from: from.state(), to: to.state(), trip, open });
        }
    }

    /// `None`: there has been another half-open state since.
    fn update_trial(&self, word: Word, update: impl Fn(Trial) -> Trial) -> Option<Trial> {
        let mut packed = self.trial.load(Ordering::Acquire);
        loop {
            let next = update(Trial::of(word, packed)?);
            match self.swap_trial(packed, next) {
                Ok(()) => return Some(next),
                Err(current) => packed = current,
            }
        }
    }

    fn swap_trial(&self, from: u64, to: Trial) -> Result<(), u64> {
        let swapped =
            self.trial.compare_exchange(from, to.pack(), Ordering::AcqRel, Ordering::Acquire);
        swapped.map(|_| ())
    }
}

/// Twice as long each time, at most `max_open`, less up to a quarter by chance so that a fleet
/// does not come back at once.
fn reopen_for(policy: &BreakerPolicy, reopened: u32, draw: f64) -> u64 {
    let doubled = millis(policy.open).saturating_mul(1 << reopened.min(31));
    let longest = doubled.min(millis(policy.max_open).max(millis(policy.open)));
    longest - (longest as f64 * 0.25 * draw) as u64
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
