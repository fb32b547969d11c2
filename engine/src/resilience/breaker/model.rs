//! The breaker against a plain model of what it promises: same calls, same time, same chance, same
//! answers. The model is one thread's, keeps every call of the minute in a list and every permit by
//! name.

use super::state::{Change, Core, Token, Verdict};
use super::window::{BUCKET_MS, BUCKETS};
use super::word::{State, Trip};
use penstock_config::policy::{BreakerPolicy, Policy};
use proptest::prelude::*;
use std::cell::RefCell;

#[derive(Debug, Clone)]
enum Op {
    Step(u64),
    /// Asks, with this chance.
    Permit(f64),
    /// Says what came of the so-manieth permit that is still out.
    Settle(usize, Verdict),
}

fn op() -> impl Strategy<Value = Op> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Failed),
        4 => Just(Verdict::Good),
        1 => Just(Verdict::NotItsFault),
    ];
    prop_oneof![
        1 => (0_u64..200).prop_map(Op::Step),
        1 => (0_u64..40_000).prop_map(Op::Step),
        4 => (0.0..1.0).prop_map(Op::Permit),
        5 => (0_usize..3, verdict).prop_map(|(at, verdict)| Op::Settle(at, verdict)),
    ]
}

/// No chance in how long it stays open: the chance of a permit is drawn for probes.
const JITTER: f64 = 0.5;

#[derive(Debug, Clone)]
enum Model {
    Closed { streak: u32, calls: Vec<(u64, bool, bool)> },
    Open { until: u64 },
    HalfOpen { good: u32, out: u32, progress: u64, fresh: bool },
}

struct Plain {
    policy: BreakerPolicy,
    model: Model,
    trip: Option<Trip>,
    reopened: u32,
    generation: u32,
}

impl Plain {
    fn go(&mut self, model: Model, trip: Option<Trip>) {
        self.model = model;
        self.trip = trip;
        self.generation += 1;
    }

    fn reopen(&mut self, now: u64, trip: Trip) {
        self.reopened += 1;
        let open = self.policy.open.as_millis() as u64;
        let longest = (open << self.reopened.min(20)).min(self.policy.max_open.as_millis() as u64);
        let until = now + longest - (longest as f64 * 0.25 * JITTER) as u64;
        self.go(Model::Open { until }, Some(trip));
    }

    /// The generation of the permit, or after what to ask again.
    fn permit(&mut self, now: u64, drawn: f64) -> Result<u32, u64> {
        let timeout = self.policy.probe_timeout.as_millis() as u64;
        if let Model::Open { until } = self.model {
            if now < until {
                return Err(until - now);
            }
            let fresh = Model::HalfOpen { good: 0, out: 0, progress: now, fresh: true };
            self.go(fresh, self.trip);
        }
        let Model::HalfOpen { out, progress, fresh, .. } = &mut self.model else {
            return Ok(self.generation);
        };
        let quiet = now - *progress;
        if *out > 0 && quiet >= timeout {
            self.reopen(now, Trip::ProbeStuck);
            return self.permit(now, drawn);
        }
        if !(*fresh || quiet >= timeout || drawn < self.policy.half_open_share) {
            return Err(timeout - quiet);
        }
        if *out == 0 {
            *progress = now;
        }
        *out += 1;
        *fresh = false;
        Ok(self.generation)
    }

    fn settle(&mut self, generation: u32, started: u64, verdict: Verdict, now: u64) {
        if generation != self.generation {
            return;
        }
        let slow = now - started > self.policy.slow_call.as_millis() as u64;
        let failed = verdict == Verdict::Failed;
        match &mut self.model {
            Model::Open { .. } => panic!("no permit is of an open state"),
            Model::Closed { .. } if verdict == Verdict::NotItsFault => {}
            Model::Closed { streak, calls } => {
                calls.push((now / BUCKET_MS, failed, slow));
                let oldest = (now / BUCKET_MS).saturating_sub(BUCKETS - 1);
                calls.retain(|(epoch, ..)| *epoch >= oldest);
                *streak = if failed { *streak + 1 } else { 0 };
                let all = calls.len() as f64;
                let share = |which: fn(&(u64, bool, bool)) -> bool| {
                    calls.iter().filter(|call| which(call)).count() as f64 / all
                };
                let enough = all >= f64::from(self.policy.min_calls);
                let trip = if failed && *streak >= self.policy.consecutive_failures {
                    Some(Trip::ConsecutiveFailures)
                } else if enough && failed && share(|call| call.1) >= self.policy.error_rate {
                    Some(Trip::ErrorRate)
                } else if enough && slow && share(|call| call.2) >= self.policy.slow_rate {
                    Some(Trip::SlowCalls)
                } else {
                    None
                };
                if trip.is_some() {
                    self.reopened = 0;
                    let until = now + self.policy.open.as_millis() as u64;
                    self.go(Model::Open { until }, trip);
                }
            }
            Model::HalfOpen { out, fresh, .. } if verdict == Verdict::NotItsFault => {
                *out -= 1;
                *fresh |= *out == 0;
            }
            Model::HalfOpen { good, out, progress, .. } if !failed && !slow => {
                *good += 1;
                *out -= 1;
                *progress = now;
                if *good >= self.policy.close_after {
                    self.reopened = 0;
                    self.go(Model::Closed { streak: 0, calls: Vec::new() }, None);
                }
            }
            Model::HalfOpen { .. } => self.reopen(now, Trip::ProbeFailed),
        }
    }

    fn state(&self) -> State {
        match self.model {
            Model::Closed { .. } => State::Closed,
            Model::Open { .. } => State::Open,
            Model::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_breaker_does_what_the_model_does(
        ops in proptest::collection::vec(op(), 1..200),
        consecutive_failures in 2_u32..8,
        min_calls in 1_u32..12,
    ) {
        let policy = BreakerPolicy {
            consecutive_failures,
            min_calls,
            half_open_share: 0.4,
            ..Policy::default().resilience.breaker
        };
        let core = Core::new();
        let closed = Model::Closed { streak: 0, calls: Vec::new() };
        let mut plain = Plain { policy, model: closed, trip: None, reopened: 0, generation: 0 };
        let mut now = 0;
        let mut out: Vec<(Token, u32, u64)> = Vec::new();
        let changes = RefCell::new(Vec::new());
        let changed = |change: Change| changes.borrow_mut().push((change.from, change.to));
        for op in ops {
            match op {
                Op::Step(millis) => now += millis,
                Op::Permit(drawn) => {
                    // The first draw is the probe's, a second one is for how long it stays open.
                    let draws = RefCell::new(vec![JITTER, drawn]);
                    let draw = || draws.borrow_mut().pop().unwrap_or(JITTER);
                    let found = core.permit(&policy, now, &draw, &changed);
                    let expected = plain.permit(now, drawn);
                    match (found, expected) {
                        (Ok(Some(token)), Ok(generation)) => out.push((token, generation, now)),
                        (Err(refusal), Err(retry_after)) => {
                            prop_assert_eq!(refusal.retry_after, retry_after);
                            prop_assert_eq!(Some(refusal.trip), plain.trip);
                        }
                        (found, expected) => prop_assert!(false, "{:?}, {:?}", found, expected),
                    }
                }
                Op::Settle(at, verdict) => {
                    if out.is_empty() {
                        continue;
                    }
                    let (token, generation, started) = out.remove(at % out.len());
                    core.settle(&policy, token, verdict, now, &|| JITTER, &changed);
                    plain.settle(generation, started, verdict, now);
                }
            }
            prop_assert_eq!(core.word().state(), plain.state());
            prop_assert_eq!(core.word().trip(), plain.trip);
            // The changes reported are a chain that ends where it is.
            let changes = changes.borrow();
            prop_assert_eq!(changes.len(), plain.generation as usize);
            prop_assert!(changes.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}
