use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

fn limit(per_minute: u32, burst: u32) -> Limit {
    Limit { per_minute, burst }
}

/// The moments at which requests at `arrivals` are admitted.
fn admitted(limit: Limit, arrivals: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut meter: Meter = Meter::default();
    arrivals.into_iter().filter(|&at| meter.ask(at, limit, 1).admitted).collect()
}

/// The most that any 60 seconds hold; `times` ascend.
fn busiest_minute(times: &[u64]) -> usize {
    let within = |begin: usize| {
        times[begin..].iter().take_while(|&&at| at - times[begin] < 60 * SECOND).count()
    };
    (0..times.len()).map(within).max().unwrap_or(0)
}

/// Waits between requests: many of them none, some long.
fn waits() -> impl Strategy<Value = Vec<u64>> {
    let wait = prop_oneof![
        6 => Just(0),
        4 => 0..SECOND,
        2 => 0..10 * SECOND,
        1 => 0..100 * SECOND,
    ];
    prop::collection::vec(wait, 1..800)
}

fn arrivals(waits: &[u64]) -> Vec<u64> {
    let mut now = 0;
    let at = |wait: &u64| {
        now += wait;
        now
    };
    waits.iter().map(at).collect()
}

fn limits() -> impl Strategy<Value = Limit> {
    (1_u32..200, 0_u32..200).prop_map(|(per_minute, more)| {
        limit(per_minute, per_minute + per_minute.div_ceil(20) + 1 + more)
    })
}

proptest! {
    #[test]
    fn no_minute_admits_more_than_the_burst(limit in limits(), waits in waits()) {
        let times = admitted(limit, arrivals(&waits));
        prop_assert!(busiest_minute(&times) <= limit.burst as usize);
    }

    /// A refused client that waits exactly as long as it is told is admitted, and would not have been
    /// a moment earlier.
    #[test]
    fn retry_after_is_true(limit in limits(), waits in waits()) {
        let mut meter: Meter = Meter::default();
        for at in arrivals(&waits) {
            let judged = meter.ask(at, limit, 1);
            if judged.admitted {
                continue;
            }
            prop_assert_eq!(judged.remaining, 0);
            let wait = judged.retry_after.as_micros() as u64;
            prop_assert!(wait > 0);
            prop_assert!(meter.clone().ask(at + wait, limit, 1).admitted);
            prop_assert!(!meter.clone().ask(at + wait - 1, limit, 1).admitted);
        }
    }

    /// As many as are said to remain pass at once, and not one more.
    #[test]
    fn remaining_is_true(limit in limits(), waits in waits()) {
        let mut meter: Meter = Meter::default();
        for at in arrivals(&waits).into_iter().step_by(40) {
            let remaining = meter.ask(at, limit, 1).remaining;
            let mut copy = meter.clone();
            let more = (0..70_000).take_while(|_| copy.ask(at, limit, 1).admitted).count();
            prop_assert_eq!(more, remaining as usize);
        }
    }

    #[test]
    fn after_the_reset_nothing_is_remembered(limit in limits(), waits in waits()) {
        let mut meter: Meter = Meter::default();
        let mut last = (0, Duration::ZERO);
        for at in arrivals(&waits) {
            last = (at, meter.ask(at, limit, 1).reset);
        }
        let then = last.0 + last.1.as_micros() as u64;
        prop_assert_eq!(meter.ask(then, limit, 1).remaining, limit.burst - 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whoever always asks is admitted `per_minute` a minute, after the first burst.
    #[test]
    fn the_long_run_rate_is_the_limit(limit in limits(), every_millis in 20_u64..200) {
        let minutes = 20;
        let arrivals = (0..minutes * 60_000 / every_millis).map(|n| n * every_millis * 1_000);
        let times = admitted(limit, arrivals);
        let asked = minutes as f64 * 60_000.0 / every_millis as f64;
        let most = f64::from(limit.burst) + f64::from(limit.per_minute) * minutes as f64;
        prop_assert!(times.len() as f64 <= most + 1.0);
        // Each request comes up to one interval after it could have passed.
        let per_minute = f64::from(limit.per_minute);
        let late = 1.0 + per_minute * every_millis as f64 / 60_000.0;
        let least = (per_minute * minutes as f64 / late).min(asked) * 0.98;
        prop_assert!(times.len() as f64 >= least, "{} of {least}", times.len());
    }
}

#[test]
fn a_changed_limit_keeps_what_was_counted() {
    let mut meter: Meter = Meter::default();
    for _ in 0..80 {
        assert!(meter.ask(0, limit(100, 150), 1).admitted);
    }
    // Half of it: 80 of 75 are used.
    let judged = meter.ask(0, limit(50, 75), 1);
    assert!(!judged.admitted);
    // Back again: 70 are left, no more and no less.
    let more = (0..200).take_while(|_| meter.ask(0, limit(100, 150), 1).admitted).count();
    assert_eq!(more, 70);
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut meter: Meter = Meter::default();
    let limit = limit(1, 3);
    let at = [100 * SECOND, 50 * SECOND, 0, 100 * SECOND];
    let admitted = at.map(|at| meter.ask(at, limit, 1).admitted);
    assert_eq!(admitted, [true, true, true, false]);
}

#[test]
fn a_client_that_was_away_for_years_is_new() {
    let mut meter: Meter = Meter::default();
    let limit = limit(60_000, 65_535);
    assert!(meter.ask(0, limit, 1).admitted);
    assert_eq!(meter.ask(u64::MAX / 2, limit, 1).remaining, 65_534);
    assert_eq!(size_of::<Meter>(), 64);
}
