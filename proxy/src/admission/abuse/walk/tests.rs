use super::*;
use proptest::prelude::*;
use std::time::Duration;

const RULE: SequentialIds =
    SequentialIds { enabled: true, run: 20, within: Duration::from_secs(60), max_stride: 100 };
const SECOND: u64 = 1_000_000_000;

/// The longest run in ids of one series that come a second apart.
fn longest(numbers: impl IntoIterator<Item = u32>) -> u8 {
    let mut walk = Walk::default();
    let steps = numbers.into_iter().zip(1..);
    let runs = steps.filter_map(|(number, at)| walk.step(1, number, at * SECOND, &RULE));
    runs.map(|run| run.length).max().unwrap_or(1)
}

#[test]
fn walks_are_measured() {
    let check = |numbers: &[u32], expected: u8| {
        assert_eq!(longest(numbers.iter().copied()), expected, "{numbers:?}");
    };
    check(&[], 1);
    check(&[7], 1);
    check(&[7, 7, 7], 1);
    check(&[1, 2, 3, 4], 4);
    check(&[9, 8, 7], 3);
    check(&[0, 100, 200, 300], 4);
    check(&[0, 101, 202, 303], 1);
    check(&[5, 5, 6, 6, 7, 7], 3);
    // As parallel requests arrive.
    check(&[1, 3, 2, 4, 6, 5, 8, 7, 9], 9);
    // Of the first three, only 1 was to be seen as their beginning, and it came last.
    check(&[3, 2, 1, 6, 5, 4, 9, 8, 7], 7);
    // Two walks at once.
    check(&[1, 500, 2, 490, 3, 480, 4, 470], 4);
    // A random id resets nothing, near or far.
    check(&[1, 2, 3, 77_000, 4, 5, 6], 6);
    check(&[1, 2, 3, 50, 4, 60, 5, 1, 6], 6);
    check(&[0, 999_999_999, 1, 999_999_998, 2], 3);
    // Once there is a walk, no number of other ids hides its next step.
    let noise = (0..50).map(|n| 10_000 + n * 1_000);
    assert_eq!(longest((1..6).chain(noise).chain([6])), 6);
}

#[test]
fn series_and_pauses_end_a_run() {
    let check = |steps: &[(u32, u32, u64)], expected: Option<Run>| {
        let mut walk = Walk::default();
        let mut last = None;
        for &(series, number, at) in steps {
            last = walk.step(series, number, at * SECOND, &RULE);
        }
        assert_eq!(last, expected, "{steps:?}");
    };
    let run = |stride, length, last| Some(Run { stride, length, last });
    check(&[(1, 1, 0), (1, 2, 60)], run(1, 2, 2));
    check(&[(1, 1, 0), (1, 2, 61)], None);
    check(&[(1, 1, 0), (3, 2, 1)], None);
    check(&[(1, 1, 0), (3, 9, 1), (1, 2, 2), (3, 8, 3)], run(-1, 2, 8));
    // Asked again in time, an id stays a part; too late, it begins anew.
    check(&[(1, 1, 0), (1, 2, 50), (1, 2, 100), (1, 3, 150)], run(1, 3, 3));
    check(&[(1, 1, 0), (1, 2, 50), (1, 2, 200), (1, 3, 250)], run(1, 2, 3));
    // A clock that goes back stands still.
    check(&[(1, 1, 9), (1, 2, 3), (1, 3, 0)], run(1, 3, 3));
    assert_eq!(Run { stride: -5, length: 3, last: 10 }.first(), 20);
}

#[test]
fn a_walk_is_small_and_never_overflows() {
    assert_eq!(size_of::<Walk>(), 144);
    assert_eq!(longest(0..1_000), u8::MAX);
    assert_eq!(longest((u32::MAX - 300)..=u32::MAX), u8::MAX);
}

proptest! {
    /// Whatever comes in between, up to four ids a step.
    #[test]
    fn every_walk_is_found(
        stride in prop_oneof![-100..=-1_i64, 1..=100_i64],
        noise in prop::collection::vec(prop::collection::vec(0..2_000_u32, 0..=4), 20),
    ) {
        let start = 10_000_i64;
        let numbers = noise.into_iter().enumerate().flat_map(|(step, noise)| {
            std::iter::once((start + stride * step as i64) as u32).chain(noise)
        });
        prop_assert!(longest(numbers) >= 20);
    }

    /// Noise out of the walk's own neighbourhood, which it could be taken for.
    #[test]
    fn a_walk_among_its_neighbours_is_found(
        stride in prop_oneof![-5..=-1_i64, 1..=5_i64],
        noise in prop::collection::vec(prop::collection::vec(900..1_100_u32, 0..=4), 20),
    ) {
        let numbers: Vec<u32> = noise.into_iter().enumerate().flat_map(|(step, noise)| {
            std::iter::once((1_000 + stride * step as i64) as u32).chain(noise)
        }).collect();
        // A step whose id was among the noise already counts when its neighbours are still known.
        prop_assert!(longest(numbers.iter().copied()) >= 10, "{numbers:?}");
    }

    /// No run is claimed that is not there: every id of it was asked for.
    #[test]
    fn a_run_was_walked(numbers in prop::collection::vec(0..40_u32, 0..120)) {
        let mut walk = Walk::default();
        for (at, &number) in numbers.iter().enumerate() {
            let Some(run) = walk.step(1, number, at as u64 * SECOND, &RULE) else { continue };
            let claimed = (0..i64::from(run.length))
                .map(|n| i64::from(run.first()) + n * i64::from(run.stride));
            for id in claimed {
                prop_assert!(numbers[..=at].iter().any(|&n| i64::from(n) == id), "{run:?} {numbers:?}");
            }
        }
    }

    #[test]
    fn random_ids_are_no_walk(numbers in prop::collection::vec(0..100_000_u32, 0..500)) {
        prop_assert!(longest(numbers) < 8);
    }

    /// A shopper in a small shop, where everything is near everything.
    #[test]
    fn browsing_a_small_shop_is_no_walk(numbers in prop::collection::vec(0..300_u32, 0..300)) {
        prop_assert!(longest(numbers) < 15);
    }
}
