//! The edges, one by one, on stepped time.

use super::*;
use penstock_config::clock::Stepped;
use penstock_config::policy::Policy;
use std::sync::Arc;

/// A breaker, its policy and its time. Nothing passes a half-open breaker by chance.
struct Bench {
    breaker: Breaker,
    clock: Arc<Stepped>,
    policy: BreakerPolicy,
}

impl Bench {
    fn new() -> Self {
        let clock = Stepped::at(0);
        let policy = Policy::default().resilience.breaker;
        let policy = BreakerPolicy { half_open_share: 0.0, ..policy };
        Self { breaker: Breaker::new("it", clock.now()), clock, policy }
    }

    fn step(&self, millis: u64) {
        self.clock.step(Duration::from_millis(millis));
    }

    fn permit(&self) -> Result<Permit<'_>, Open> {
        self.breaker.permit(&self.policy, self.clock.now())
    }

    fn succeed(&self) {
        self.permit().expect("it lets calls pass").succeeded(self.clock.now());
    }

    fn fail(&self) {
        self.permit().expect("it lets calls pass").failed(self.clock.now());
    }

    fn status(&self) -> Status {
        self.breaker.status(self.clock.now())
    }

    fn state(&self) -> (State, Option<Trip>) {
        let status = self.status();
        assert_eq!(status.state, self.breaker.state());
        (status.state, status.trip)
    }

    /// Opens it and steps to where the next call is a probe.
    fn half_open(&self) {
        self.trip();
        self.step(30_000);
    }

    fn trip(&self) {
        for _ in 0..5 {
            self.fail();
        }
        assert_eq!(self.state(), (State::Open, Some(Trip::ConsecutiveFailures)));
    }

    /// How long it says it stays open.
    fn wait(&self) -> Duration {
        self.permit().expect_err("it is open").retry_after
    }
}

#[test]
fn it_opens_at_the_fifth_failure_in_a_row() {
    let it = Bench::new();
    for _ in 0..4 {
        it.fail();
    }
    it.succeed();
    for _ in 0..4 {
        it.fail();
    }
    assert_eq!(it.state(), (State::Closed, None));
    assert_eq!(it.status().consecutive_failures, 4);
    it.fail();
    assert_eq!(it.state(), (State::Open, Some(Trip::ConsecutiveFailures)));
    assert_eq!(it.wait(), Duration::from_secs(30));
    it.step(29_999);
    assert_eq!(it.wait(), Duration::from_millis(1));
    it.step(1);
    it.succeed();
    assert_eq!(it.state(), (State::HalfOpen, Some(Trip::ConsecutiveFailures)));
    assert_eq!(it.status().opened, 1);
}

#[test]
fn it_opens_at_a_share_of_the_last_minute() {
    // Calls of a letter each: . good, x failed, s slow; then the state.
    let check = |calls: &str, expected: Option<Trip>| {
        let it = Bench::new();
        for call in calls.chars() {
            match call {
                '.' => it.succeed(),
                'x' => it.fail(),
                's' => {
                    let permit = it.permit().expect("closed");
                    it.step(5_001);
                    permit.succeeded(it.clock.now());
                }
                '-' => it.step(60_000),
                other => panic!("{other}"),
            }
        }
        assert_eq!(it.state().1, expected, "{calls}");
    };
    check("x.x.x.x.x", None); // nine calls are too few
    check("x.x.x.x..x", Some(Trip::ErrorRate));
    check(".x.x.x.x.x", Some(Trip::ErrorRate));
    check("..x.x.x.x..", None);
    check("x.x.x.x-..x", None); // a minute later they are forgotten
    check("sssssssss", None);
    check("ssssssssss", Some(Trip::SlowCalls));
    check(".s.s.s.s.s", Some(Trip::SlowCalls));
    check("..s.s.s.s.s", None);
    check("xxxx.", None);
    check("xxxxx", Some(Trip::ConsecutiveFailures));
}

#[test]
fn what_is_not_its_fault_does_not_count() {
    let it = Bench::new();
    for _ in 0..100 {
        it.permit().expect("closed").not_its_fault();
    }
    assert_eq!((it.state(), it.status().counts), ((State::Closed, None), Counts::default()));
}

#[test]
fn a_permit_that_is_dropped_is_a_failure() {
    let it = Bench::new();
    for _ in 0..5 {
        drop(it.permit().expect("closed"));
    }
    assert_eq!(it.state().0, State::Open);
    it.step(30_000);
    drop(it.permit().expect("a probe"));
    assert_eq!(it.state(), (State::Open, Some(Trip::ProbeFailed)));
}

#[test]
fn it_closes_after_three_good_probes_and_forgets() {
    let it = Bench::new();
    it.half_open();
    for probe in 0..3 {
        assert_eq!(it.state().0, if probe == 0 { State::Open } else { State::HalfOpen });
        it.succeed();
        it.step(2_000);
    }
    assert_eq!(it.state(), (State::Closed, None));
    assert_eq!(it.status().counts, Counts::default());
    for _ in 0..4 {
        it.fail();
    }
    assert_eq!(it.state().0, State::Closed);
}

#[test]
fn half_open_lets_one_probe_pass_at_a_time() {
    let it = Bench::new();
    it.half_open();
    let probe = it.permit().expect("the first");
    for _ in 0..100 {
        let refused = it.permit().expect_err("the share is none");
        assert_eq!(refused.trip, Trip::ConsecutiveFailures);
        assert!(refused.retry_after <= it.policy.probe_timeout);
    }
    probe.succeeded(it.clock.now());
    assert!(it.permit().is_err(), "the share is none");
    it.step(2_000);
    let next = it.permit().expect("one more when it was quiet");
    next.succeeded(it.clock.now());
}

#[test]
fn half_open_lets_its_share_pass() {
    let mut it = Bench::new();
    it.policy.half_open_share = 0.1;
    it.half_open();
    let mut passed = Vec::new();
    for _ in 0..10_000 {
        passed.extend(it.permit());
    }
    // Six standard deviations on either side of a thousand.
    assert!((820..=1_180).contains(&passed.len()), "{}", passed.len());
    for permit in passed {
        permit.not_its_fault();
    }
}

#[test]
fn a_probe_without_verdict_counts_as_failed_after_its_time() {
    let it = Bench::new();
    it.half_open();
    let probe = it.permit().expect("the first");
    it.step(1_999);
    assert_eq!(it.permit().expect_err("not yet").trip, Trip::ConsecutiveFailures);
    it.step(1);
    assert_eq!(it.permit().expect_err("stuck").trip, Trip::ProbeStuck);
    assert_eq!(it.state(), (State::Open, Some(Trip::ProbeStuck)));
    // What it says later is about a state that is gone.
    probe.succeeded(it.clock.now());
    assert_eq!(it.state(), (State::Open, Some(Trip::ProbeStuck)));
}

#[test]
fn a_probe_that_says_nothing_gives_its_place_to_the_next() {
    let it = Bench::new();
    it.half_open();
    for _ in 0..10 {
        it.permit().expect("its place is free").not_its_fault();
    }
    it.succeed();
    assert_eq!(it.state().0, State::HalfOpen);
}

#[test]
fn a_slow_probe_opens_it_again() {
    let mut it = Bench::new();
    it.policy.slow_call = Duration::from_millis(100);
    it.half_open();
    let probe = it.permit().expect("the first");
    it.step(101);
    probe.succeeded(it.clock.now());
    assert_eq!(it.state(), (State::Open, Some(Trip::ProbeFailed)));
}

#[test]
fn late_answers_say_nothing_about_another_state() {
    let it = Bench::new();
    let early: Vec<_> = (0..20).map(|_| it.permit().expect("closed")).collect();
    it.half_open();
    it.succeed();
    for (at, permit) in early.into_iter().enumerate() {
        if at % 2 == 0 {
            permit.failed(it.clock.now());
        } else {
            permit.succeeded(it.clock.now());
        }
        assert_eq!(it.state().0, State::HalfOpen);
    }
    let before_closing = it.breaker.status(it.clock.now());
    assert_eq!(before_closing.opened, 1);
}

#[test]
fn it_stays_open_longer_each_time_up_to_a_bound() {
    let it = Bench::new();
    it.trip();
    let mut expected = Duration::from_secs(30);
    for _ in 0..6 {
        it.clock.step(it.wait());
        it.fail();
        expected = (expected * 2).min(Duration::from_secs(300));
        let wait = it.wait();
        assert!(wait <= expected && wait >= expected.mul_f64(0.74), "{wait:?} of {expected:?}");
    }
    it.clock.step(it.wait());
    for _ in 0..3 {
        it.succeed();
        it.step(2_000);
    }
    it.trip();
    assert_eq!(it.wait(), Duration::from_secs(30), "closing forgets");
}

#[test]
fn an_operator_overrules_and_lets_go() {
    let it = Bench::new();
    it.breaker.force(Some(Forced::Open));
    assert_eq!(it.permit().expect_err("forced").trip, Trip::Forced);
    assert_eq!(it.state(), (State::Open, Some(Trip::Forced)));
    assert_eq!(it.status().forced, Some(Forced::Open));
    it.breaker.force(Some(Forced::Closed));
    for _ in 0..100 {
        it.fail();
    }
    assert_eq!(it.state(), (State::Closed, None));
    it.breaker.force(None);
    assert_eq!((it.state(), it.status().counts), ((State::Closed, None), Counts::default()));
    it.trip();
    it.breaker.force(Some(Forced::Closed));
    it.succeed();
    it.breaker.force(None);
    assert_eq!(it.state(), (State::Open, Some(Trip::ConsecutiveFailures)), "as it was");
}

#[test]
fn a_changed_policy_is_in_force_with_the_next_call() {
    let mut it = Bench::new();
    it.policy.consecutive_failures = 50;
    it.policy.min_calls = 1_000;
    for _ in 0..10 {
        it.fail();
    }
    it.policy.consecutive_failures = 11;
    it.fail();
    assert_eq!(it.state().0, State::Open);
}

#[test]
fn a_breaker_is_right_after_years() {
    let it = Bench::new();
    it.step(3 * 365 * 86_400_000);
    it.half_open();
    for _ in 0..3 {
        it.succeed();
        it.step(2_000);
    }
    assert_eq!(it.state().0, State::Closed);
}

/// `call`: its verdicts, and that a caller who goes away is not held against anybody.
#[test]
fn a_call_is_judged_by_its_error() {
    use futures::FutureExt;
    let it = Bench::new();
    let clock: &dyn Clock = &*it.clock;
    let call = |result: Result<(), bool>| {
        let work = async move { result };
        let called = it.breaker.call(&it.policy, clock, work, |its_fault| *its_fault);
        called.now_or_never().expect("nothing to wait for")
    };
    assert_eq!(call(Ok(())), Ok(Ok(())));
    assert_eq!(call(Err(false)), Ok(Err(false)));
    assert_eq!(it.status().counts.calls, 1);
    let endless = std::future::pending::<Result<(), bool>>();
    let called = it.breaker.call(&it.policy, clock, endless, |_| true);
    assert!(called.now_or_never().is_none());
    assert_eq!(it.status().counts.calls, 1, "the caller went away");
    for _ in 0..5 {
        assert_eq!(call(Err(true)), Ok(Err(true)));
    }
    assert_eq!(call(Ok(())).expect_err("open").trip, Trip::ConsecutiveFailures);
}

#[test]
fn it_is_shut_while_no_call_passes() {
    let it = Bench::new();
    let shut = || it.breaker.is_shut(it.clock.now());
    assert!(!shut());
    it.trip();
    assert!(shut());
    it.step(29_999);
    assert!(shut());
    // Time to try it.
    it.step(1);
    assert!(!shut());
    it.breaker.force(Some(Forced::Open));
    assert!(shut() && it.breaker.is_forced_open());
    it.breaker.force(Some(Forced::Closed));
    assert!(!shut() && !it.breaker.is_forced_open());
}

#[test]
fn who_saw_it_work_has_it_tried_sooner() {
    let it = Bench::new();
    it.breaker.try_soon(it.clock.now());
    assert_eq!(it.state(), (State::Closed, None), "there is nothing to try");
    it.trip();
    it.step(1_000);
    it.breaker.try_soon(it.clock.now());
    assert_eq!(it.state().0, State::HalfOpen);
    it.fail();
    assert_eq!(it.state().0, State::Open);
}

#[test]
fn a_ticket_is_settled_by_whoever_has_it() {
    let it = Bench::new();
    let settle = |worked| {
        let now = it.clock.now();
        let ticket = it.breaker.ticket(&it.policy, now).expect("it lets calls pass");
        it.breaker.settled(&it.policy, ticket, worked, now);
    };
    for worked in [Some(false), Some(false), None, Some(false), Some(false)] {
        settle(worked);
    }
    assert_eq!(it.status().consecutive_failures, 4);
    // Of one that is lost nothing is known.
    drop(it.breaker.ticket(&it.policy, it.clock.now()));
    assert_eq!(it.state(), (State::Closed, None));
    settle(Some(true));
    assert_eq!(it.status().consecutive_failures, 0);
    it.trip();
    assert!(it.breaker.ticket(&it.policy, it.clock.now()).is_err());
}
