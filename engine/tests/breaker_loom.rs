//! The breaker's state machine under every interleaving of two threads: the same source files, with
//! loom's atomics in place of the standard ones.

#![allow(missing_docs, dead_code)]

mod sync {
    pub use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};
}
#[path = "../src/resilience/breaker/state.rs"]
mod state;
#[path = "../src/resilience/breaker/trial.rs"]
mod trial;
#[path = "../src/resilience/breaker/window.rs"]
mod window;
#[path = "../src/resilience/breaker/word.rs"]
mod word;

use loom::sync::Arc;
use loom::thread;
use penstock_config::policy::{BreakerPolicy, Policy};
use state::{Change, Core, Refusal, Token, Verdict};
use std::sync::Mutex;
use word::{State, Trip};

/// A core, its policy and the changes it reported.
struct Bench {
    core: Core,
    policy: BreakerPolicy,
    // Not loom's: what the test itself writes down is no part of what is examined.
    changes: Mutex<Vec<(State, State)>>,
}

impl Bench {
    fn new(policy: BreakerPolicy) -> Self {
        Self { core: Core::new(), policy, changes: Mutex::default() }
    }

    fn note(&self, change: Change) {
        self.changes.lock().expect("no holder panics").push((change.from, change.to));
    }

    fn permit(&self, now: u64) -> Result<Token, Refusal> {
        let permit = self.core.permit(&self.policy, now, &|| 0.5, &|change| self.note(change));
        permit.map(|token| token.expect("nobody forces it"))
    }

    fn settle(&self, token: Token, verdict: Verdict, now: u64) {
        let note = |change| self.note(change);
        self.core.settle(&self.policy, token, verdict, now, &|| 0.5, &note);
    }

    fn call(&self, verdict: Verdict) {
        if let Ok(token) = self.permit(0) {
            self.settle(token, verdict, 0);
        }
    }

    fn changes(&self) -> Vec<(State, State)> {
        self.changes.lock().expect("no holder panics").clone()
    }

    fn state(&self) -> State {
        self.core.word().state()
    }

    /// Opened at 0 until 30,000 by as many failures as it takes.
    fn opened(policy: BreakerPolicy) -> Self {
        let it = Self::new(policy);
        for _ in 0..policy.consecutive_failures {
            it.call(Verdict::Failed);
        }
        assert_eq!(it.state(), State::Open);
        it.changes.lock().expect("no holder panics").clear();
        it
    }
}

fn policy(consecutive_failures: u32, close_after: u32, half_open_share: f64) -> BreakerPolicy {
    let policy = Policy::default().resilience.breaker;
    BreakerPolicy { consecutive_failures, close_after, half_open_share, ..policy }
}

/// Runs `first` and `second` at once on the same breaker, in every order of their steps.
fn race<A, B: 'static>(
    it: Bench,
    first: impl FnOnce(&Bench) -> A,
    second: impl FnOnce(&Bench) -> B + 'static,
    check: impl FnOnce(&Bench, A, B),
) {
    let it = Arc::new(it);
    let other = Arc::clone(&it);
    let thread = thread::spawn(move || second(&other));
    let a = first(&it);
    let b = thread.join().expect("it does not panic");
    check(&it, a, b);
}

#[test]
fn two_failures_at_once_are_two() {
    let policy = policy(2, 1, 0.0);
    loom::model(move || {
        let fail = |it: &Bench| it.call(Verdict::Failed);
        race(Bench::new(policy), fail, fail, |it, (), ()| {
            assert_eq!(it.changes(), [(State::Closed, State::Open)]);
            assert_eq!(it.core.word().trip(), Some(Trip::ConsecutiveFailures));
        });
    });
}

#[test]
fn it_opens_once_whoever_is_last() {
    let policy = policy(1, 1, 0.0);
    loom::model(move || {
        let fail = |it: &Bench| it.call(Verdict::Failed);
        race(Bench::new(policy), fail, fail, |it, (), ()| {
            assert_eq!(it.changes(), [(State::Closed, State::Open)]);
        });
    });
}

#[test]
fn a_success_breaks_the_row_or_comes_too_late() {
    let policy = policy(2, 1, 0.0);
    loom::model(move || {
        let it = Bench::new(policy);
        it.call(Verdict::Failed);
        let fail = |it: &Bench| it.call(Verdict::Failed);
        let succeed = |it: &Bench| it.call(Verdict::Good);
        race(it, fail, succeed, |it, (), ()| {
            let (streak, counts) = it.core.counts(0);
            match it.state() {
                State::Open => assert_eq!(it.changes(), [(State::Closed, State::Open)]),
                State::Closed => {
                    assert!(streak <= 1, "{streak}");
                    assert_eq!((counts.calls, counts.failures), (3, 2));
                }
                State::HalfOpen => panic!("nobody waited"),
            }
        });
    });
}

#[test]
fn one_of_two_is_the_probe() {
    let policy = policy(1, 2, 0.0);
    loom::model(move || {
        let permit = |it: &Bench| it.permit(30_000).is_ok();
        race(Bench::opened(policy), permit, permit, |it, a, b| {
            assert!(a ^ b, "{a} {b}");
            assert_eq!(it.changes(), [(State::Open, State::HalfOpen)]);
        });
    });
}

/// Half-open with two probes out.
fn two_probes(policy: BreakerPolicy) -> (Bench, Token, Token) {
    let it = Bench::opened(policy);
    let first = it.permit(30_000).expect("a probe");
    let second = it.permit(30_000).expect("its share is all");
    it.changes.lock().expect("no holder panics").clear();
    (it, first, second)
}

#[test]
fn of_a_good_and_a_bad_probe_the_first_decides() {
    let policy = policy(1, 1, 1.0);
    loom::model(move || {
        let (it, good, bad) = two_probes(policy);
        let settle_good = move |it: &Bench| it.settle(good, Verdict::Good, 30_000);
        let settle_bad = move |it: &Bench| it.settle(bad, Verdict::Failed, 30_000);
        race(it, settle_good, settle_bad, |it, (), ()| {
            assert_eq!(it.changes(), [(State::HalfOpen, it.state())]);
            let (streak, counts) = it.core.counts(30_000);
            assert_eq!((streak, counts.calls), (0, 0), "late answers say nothing");
        });
    });
}

#[test]
fn good_probes_at_once_are_all_counted() {
    let policy = policy(1, 2, 1.0);
    loom::model(move || {
        let (it, first, second) = two_probes(policy);
        let settle = |token| move |it: &Bench| it.settle(token, Verdict::Good, 30_000);
        race(it, settle(first), settle(second), |it, (), ()| {
            assert_eq!(it.changes(), [(State::HalfOpen, State::Closed)]);
        });
    });
}

#[test]
fn a_stuck_probe_is_judged_once() {
    let policy = policy(1, 1, 0.0);
    loom::model(move || {
        let it = Bench::opened(policy);
        let probe = it.permit(30_000).expect("the probe");
        it.changes.lock().expect("no holder panics").clear();
        let answer = move |it: &Bench| it.settle(probe, Verdict::Good, 32_000);
        let call = |it: &Bench| it.permit(32_000).is_ok();
        race(it, answer, call, |it, (), passed| {
            assert_eq!(it.changes(), [(State::HalfOpen, it.state())]);
            assert!(!passed || it.state() == State::Closed);
        });
    });
}
