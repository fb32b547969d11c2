use super::*;
use crate::resilience::ladder::{Situation, Verdict, decide};
use penstock_config::clock::{Clock, Stepped};
use penstock_config::policy::Policy;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

fn policy() -> LoadPolicy {
    Policy::default().resilience.load
}

/// Ranking threads that take what comes in turn, each piece of work for a fixed time: M/D/c.
struct Engine {
    load: Arc<Load>,
    policy: LoadPolicy,
    origin: Instant,
    /// When each thread is done with what it was given.
    free: Vec<u64>,
    /// What is under way, by when it is done.
    done: BinaryHeap<Reverse<(u64, u64)>>,
    leaves: BTreeMap<u64, (Leave, u64)>,
    number: u64,
    chance: u64,
    now: u64,
}

/// What happened in a phase.
#[derive(Debug, Default)]
struct Seen {
    modes: BTreeMap<Mode, usize>,
    refused: usize,
    /// Microseconds, of all answers that used a thread.
    waited: u64,
    worked: u64,
    lowest: f64,
    highest: f64,
}

impl Seen {
    fn of(&self, mode: Mode) -> usize {
        self.modes.get(&mode).copied().unwrap_or(0)
    }

    /// But for a burst of arrivals now and then.
    fn is_in_full(&self) -> bool {
        let all: usize = self.modes.values().sum();
        self.of(Mode::Full) * 100 >= all * 98 && self.refused == 0
    }

    fn mean_wait(&self) -> u64 {
        let threaded: usize = self.modes.iter().filter(|m| *m.0 < Mode::Stale).map(|m| m.1).sum();
        self.waited / threaded.max(1) as u64
    }
}

impl Engine {
    fn new(threads: usize, policy: LoadPolicy) -> Self {
        let origin = Stepped::at(0).now();
        Self {
            load: Load::new(threads, origin),
            policy,
            origin,
            free: vec![0; threads],
            done: BinaryHeap::new(),
            leaves: BTreeMap::new(),
            number: 0,
            chance: 7,
            now: 0,
        }
    }

    fn at(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }

    /// In (0, 1].
    fn draw(&mut self) -> f64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.chance >> 33) as f64 + 1.0) / f64::from(1_u32 << 31)
    }

    /// Searches arrive for `lasts` at random, one every `every` on average; in full they take `full`.
    fn searches(&mut self, lasts: u64, every: u64, full: u64) -> Seen {
        let mut seen = Seen { lowest: f64::MAX, ..Seen::default() };
        let end = self.now + lasts;
        loop {
            self.now += (-self.draw().ln() * every as f64) as u64;
            self.finish(self.now);
            if self.now >= end {
                return seen;
            }
            self.search(full, &mut seen);
            let limit = self.load.status(&self.policy, self.at(self.now)).limit;
            seen.lowest = seen.lowest.min(limit);
            seen.highest = seen.highest.max(limit);
        }
    }

    fn search(&mut self, full: u64, seen: &mut Seen) {
        let at = self.at(self.now);
        let policy = self.policy;
        let rung = |view: &View| {
            let situation = Situation {
                utilisation: view.utilisation,
                usual: view.usual,
                left: Duration::from_millis(180),
                history_is_shut: false,
                stale: false,
                cap: Mode::Full,
            };
            match decide(&policy, &situation) {
                Verdict::Answer { mode, .. } => Ok(mode),
                Verdict::Refuse => Err(()),
            }
        };
        let Ok(leave) = self.load.enter(&self.policy, Question::Search, at, rung) else {
            seen.refused += 1;
            return;
        };
        *seen.modes.entry(leave.mode()).or_default() += 1;
        let (begins, takes) = match leave.mode() {
            Mode::Popular => (self.now, 50),
            mode => {
                let takes = if mode == Mode::Full { full } else { full * 2 / 5 };
                let thread = self.free.iter_mut().min().expect("a thread");
                let begins = (*thread).max(self.now);
                *thread = begins + takes;
                (begins, takes)
            }
        };
        let waited = begins - self.now;
        if leave.mode() != Mode::Popular {
            seen.waited += waited;
            seen.worked += takes;
        }
        self.number += 1;
        self.done.push(Reverse((begins + takes, self.number)));
        self.leaves.insert(self.number, (leave, waited));
    }

    /// Everything that is done by `now`.
    fn finish(&mut self, now: u64) {
        while let Some(&Reverse((at, number))) = self.done.peek()
            && at <= now
        {
            self.done.pop();
            let (leave, waited) = self.leaves.remove(&number).expect("under way");
            leave.answered(&self.policy, self.at(at), Duration::from_micros(waited));
        }
    }
}

/// Three times what two threads can do in full, for half a minute; calm before and after.
#[test]
fn an_overload_is_answered_in_cheaper_modes_and_full_quality_comes_back() {
    for full in [2 * MILLI, 5 * MILLI, 20 * MILLI] {
        let mut engine = Engine::new(2, policy());
        let capacity = full / 2;
        let calm = engine.searches(10 * SECOND, 3 * capacity, full);
        assert!(calm.is_in_full(), "{full} {calm:?}");

        engine.searches(10 * SECOND, capacity / 3, full);
        let lasts = 20 * SECOND;
        let swamped = engine.searches(lasts, capacity / 3, full);
        println!("{full} µs, mean wait {} µs, {swamped:?}", swamped.mean_wait());
        assert_eq!(swamped.refused, 0, "{full} {swamped:?}");
        // The threads have work all the time, and what they are given does not wait long.
        assert!(swamped.worked > lasts * 2 * 9 / 10, "{full} {swamped:?}");
        let allowed = full / 2 + 10 * MILLI;
        assert!(swamped.mean_wait() < 2 * allowed, "{full} {}: {swamped:?}", swamped.mean_wait());
        // It stays where it settled.
        assert!(swamped.highest < 1.7 * swamped.lowest, "{full} {swamped:?}");
        assert!(swamped.lowest > 2.0, "{full} {swamped:?}");
        let computed = swamped.of(Mode::KeywordOnly) + swamped.of(Mode::Unpersonalised);
        assert!(computed > swamped.of(Mode::Popular) / 2, "{full} {swamped:?}");

        engine.searches(2 * SECOND, 3 * capacity, full);
        let after = engine.searches(5 * SECOND, 3 * capacity, full);
        assert!(after.is_in_full(), "{full} {after:?}");
    }
}

#[test]
fn a_burst_on_an_idle_engine_is_answered_in_full() {
    let mut engine = Engine::new(2, policy());
    for _ in 0..20 {
        engine.searches(SECOND / 2, 100 * MILLI, 3 * MILLI);
        // A page of the shop that asks five things at once.
        let mut seen = Seen::default();
        for _ in 0..5 {
            engine.search(3 * MILLI, &mut seen);
        }
        assert_eq!(seen.of(Mode::Full), 5, "{seen:?}");
    }
}

#[test]
fn the_limit_follows_what_the_engine_can_do() {
    let settled = |threads, full| {
        let mut engine = Engine::new(threads, policy());
        engine.searches(20 * SECOND, full / threads as u64 / 3, full);
        engine.searches(10 * SECOND, full / threads as u64 / 3, full)
    };
    let (one, eight) = (settled(1, 10 * MILLI), settled(8, 10 * MILLI));
    assert!(one.highest < eight.lowest / 2.0, "{one:?} {eight:?}");
    assert!(eight.lowest > 8.0, "{eight:?}");
}

#[test]
fn a_stall_is_forgotten() {
    let mut engine = Engine::new(2, policy());
    engine.searches(5 * SECOND, 10 * MILLI, 4 * MILLI);
    // For two seconds everything waits, as when another process has the processors.
    for thread in &mut engine.free {
        *thread = engine.now + 2 * SECOND;
    }
    engine.searches(2 * SECOND, 10 * MILLI, 4 * MILLI);
    let after = engine.searches(3 * SECOND, 10 * MILLI, 4 * MILLI);
    let late = engine.searches(5 * SECOND, 10 * MILLI, 4 * MILLI);
    assert_eq!(after.refused + late.refused, 0);
    assert!(late.is_in_full(), "{after:?} {late:?}");
}

/// Enters in full, whatever is in progress.
fn enter(load: &Arc<Load>, policy: &LoadPolicy, question: Question, now: Instant) -> Leave {
    load.enter::<()>(policy, question, now, |_| Ok(Mode::Full)).expect("it is let in")
}

#[test]
fn what_failed_gives_its_place_back_and_teaches_nothing() {
    let clock = Stepped::at(0);
    let load = Load::new(2, clock.now());
    let before = load.status(&policy(), clock.now());
    for _ in 0..1_000 {
        let leave = enter(&load, &policy(), Question::Search, clock.now());
        clock.step(Duration::from_millis(5));
        drop(leave);
    }
    assert_eq!(load.status(&policy(), clock.now()), before);
}

#[test]
fn who_is_refused_takes_no_place() {
    let clock = Stepped::at(0);
    let load = Load::new(1, clock.now());
    let refused = load.enter(&policy(), Question::Search, clock.now(), |_| Err("no"));
    assert_eq!(refused.err(), Some("no"));
    assert_eq!(load.status(&policy(), clock.now()).answers, 0);
}

#[test]
fn work_nobody_waits_for_begins_while_there_is_little_to_do() {
    let clock = Stepped::at(0);
    let load = Load::new(2, clock.now());
    let begin = || load.try_background(&policy(), Question::Popular, Mode::Full, clock.now());
    let users: Vec<Leave> =
        (0..2).map(|_| enter(&load, &policy(), Question::Search, clock.now())).collect();
    let first = begin().expect("2 of 8 are less than 0.3");
    assert!(begin().is_none(), "3 of 8 are more");
    assert_eq!(load.status(&policy(), clock.now()).background, 1);
    drop(first);
    assert!(begin().is_some());
    drop(users);
    let none = LoadPolicy { background: 0.0, ..policy() };
    assert!(load.try_background(&none, Question::Search, Mode::Full, clock.now()).is_none());
}

#[test]
fn popular_answers_say_nothing_about_the_threads() {
    let clock = Stepped::at(0);
    let load = Load::new(2, clock.now());
    for _ in 0..1_000 {
        let popular = |_: &View| Ok::<_, ()>(Mode::Popular);
        let leave = load.enter(&policy(), Question::Search, clock.now(), popular).unwrap();
        clock.step(Duration::from_millis(1));
        leave.answered(&policy(), clock.now(), Duration::ZERO);
    }
    let status = load.status(&policy(), clock.now());
    assert!((status.limit - 8.0).abs() < 1e-9, "{status:?}");
    assert_eq!(status.waiting_ms, 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever answers take, the limit keeps to its bounds, and what was taken is given back.
    #[test]
    fn the_limit_keeps_to_its_bounds(
        min in 1_u32..20,
        more in 0_u32..100,
        workers in 1_usize..64,
        answers in prop::collection::vec((0_u64..500_000, 0_u64..500_000, 0_u64..50_000, 0_u8..5), 1..400),
    ) {
        let policy = LoadPolicy { min_limit: min, max_limit: min + more, ..policy() };
        let clock = Stepped::at(0);
        let load = Load::new(workers, clock.now());
        let mut held = Vec::new();
        for (took, waited, pause, what) in answers {
            let entered = clock.now();
            let leave = enter(&load, &policy, Question::Similar, entered);
            match what {
                0 => drop(leave),
                1 => held.push(leave),
                _ => {
                    let now = entered + Duration::from_micros(took);
                    leave.answered(&policy, now, Duration::from_micros(waited));
                }
            }
            clock.step(Duration::from_micros(pause));
            let status = load.status(&policy, clock.now());
            prop_assert!(status.limit >= f64::from(min) && status.limit <= f64::from(min + more));
            prop_assert_eq!(status.answers, held.len());
            prop_assert!(status.utilisation.is_finite());
        }
        drop(held);
        let status = load.status(&policy, clock.now());
        prop_assert_eq!((status.answers, status.in_flight), (0, 0.0));
    }
}
