use super::call::{arguments, read};
use super::known::{Answer, Question};
use super::*;
use crate::admission::Who;
use crate::admission::meter::Meter;
use crate::admission::tests::{asked, limits};
use penstock_config::bootstrap::Bootstrap;
use penstock_config::clock;
use penstock_config::policy::{Class, Limit, Policy};
use penstock_tests::redis::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::{Cell, RefCell};

/// A connection of the test's own.
fn connect(redis: &RedisServer) -> redis::Connection {
    redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

/// The settings of a process whose Redis is there.
fn settings(url: &str) -> penstock_config::bootstrap::Redis {
    let env = |name: &str| (name == "PENSTOCK_REDIS_URL").then(|| url.to_owned());
    Bootstrap::parse("penstock.toml", b"", &env).unwrap().redis.unwrap()
}

const LEASE_MICROS: u64 = 2_000_000;

fn lease() -> penstock_config::policy::Lease {
    limits("").lease
}

/// The same arrivals are decided in process and by the script; every number of every answer agrees.
#[tokio::test(flavor = "multi_thread")]
async fn redis_counts_as_this_process_does() {
    let redis = RedisServer::start().await;
    let connection = RefCell::new(connect(&redis));
    let script = redis::Script::new(include_str!("meter.lua"));
    let arrivals = prop::collection::vec(
        (
            prop_oneof![4 => Just(0), 4 => 0..1_000_000_u64, 3 => 0..10_000_000_u64, 1 => 0..90_000_000_u64],
            1..4_u32,
        ),
        1..250,
    );
    let cases = (1_u32..120, 0_u32..60, arrivals);
    let number = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(60));
    runner
        .run(&cases, |(per_minute, more, arrivals)| {
            let limit = Limit { per_minute, burst: Limit::least_burst(per_minute) + more };
            let mut meter: Meter = Meter::default();
            number.set(number.get() + 1);
            // A Redis that is years old counts like one that has just begun.
            let began = 1_790_000_000_000_000 / 63_000_000 * 63_000_000;
            let mut now = 1;
            for (wait, cost) in arrivals {
                now += wait;
                let ours = meter.ask(now, limit, cost);
                let theirs: Vec<u64> = script
                    .key(format!("meter{}", number.get()))
                    .arg(began + now)
                    .arg(1)
                    .arg(&[limit.per_minute, limit.burst, cost, 0, 1])
                    .arg(&[0, 0, 0])
                    .arg("")
                    .invoke(&mut *connection.borrow_mut())
                    .unwrap();
                let expected = [
                    if ours.admitted { u64::from(cost.min(limit.burst)) } else { 0 },
                    ours.remaining.into(),
                    ours.retry_after.as_micros() as u64,
                    ours.reset.as_micros() as u64,
                ];
                prop_assert_eq!(&theirs[..4], &expected[..], "{} at {}", cost, now);
            }
            Ok(())
        })
        .unwrap();
}

/// An answer of Redis that grants, or not.
fn answer(granted: u32, room: u32) -> Answer {
    let retry_after = if granted == 0 { 5_000_000 } else { 0 };
    Answer { granted, room, retry_after, forgotten_in: 60_000_000, generation: 7 }
}

#[test]
fn who_was_refused_is_refused_here_until_the_time_is_over() {
    let limit = Limit { per_minute: 10, burst: 12 };
    let mut known: Known = Known::default();
    let question = known.question(0, limit, 1, None);
    assert!(!known.answered(0, limit, question, answer(0, 0), None).admitted);
    let judged = known.refused(2_000_000, limit, 1).expect("three seconds are left");
    assert_eq!((judged.admitted, judged.retry_after.as_secs()), (false, 3));
    assert!(known.refused(5_000_000, limit, 1).is_none());
    // Another limit, or a cheaper request, may pass.
    assert!(known.refused(0, Limit { burst: 20, ..limit }, 1).is_none());
    let question = known.question(0, limit, 5, None);
    known.answered(0, limit, question, answer(0, 3), None);
    assert!(known.refused(0, limit, 3).is_none() && known.refused(0, limit, 5).is_some());
}

#[test]
fn batches_grow_while_they_are_used_up_and_stay_within_the_bound() {
    let limit = Limit { per_minute: 1_000, burst: 1_500 };
    let lease = lease();
    let mut known: Known = Known::default();
    let mut now = 0;
    let mut batches = Vec::new();
    for _ in 0..10 {
        let question = known.question(now, limit, 1, Some(lease));
        // A second caller at the same time asks for itself only.
        if question.extra > 0 {
            assert_eq!(known.question(now, limit, 1, Some(lease)).extra, 0);
        }
        batches.push(question.extra + 1);
        known.answered(now, limit, question, answer(question.extra + 1, 500), Some(lease));
        while known.take(now, limit, 1).is_some() {}
        now += 1_000;
    }
    assert_eq!(batches, [1, 2, 4, 8, 16, 32, 64, 75, 75, 75]);
    assert_eq!(lease.most(limit), 75);
    // Nobody came for a while: what is left of a batch is lost, and the next one is smaller.
    let question = known.question(now, limit, 1, Some(lease));
    known.answered(now, limit, question, answer(75, 500), Some(lease));
    now += LEASE_MICROS;
    assert!(known.take(now, limit, 1).is_none());
    assert_eq!(known.question(now, limit, 1, Some(lease)).extra, 36);
}

#[test]
fn what_is_admitted_alone_is_owed_once() {
    let limit = Limit { per_minute: 60, burst: 90 };
    let share = limit.share(3);
    let mut known: Known = Known::default();
    let question = known.question(0, limit, 1, None);
    assert_eq!((question.generation, question.owed, question.whole), (0, 0, None));
    known.answered(0, limit, question, answer(1, 89), None);
    // Redis is gone: one of thirty was used before.
    let admitted =
        (0..50).filter(|_| known.share(0, share, 1, Unanswered::Untold).admitted).count();
    assert_eq!(admitted, 29);
    let question = known.question(0, limit, 1, None);
    assert_eq!((question.generation, question.owed), (7, 29));
    assert_eq!(question.whole.map(|(_, slots)| slots[0]), Some(30));
    // It is not owed any more only when Redis heard of it.
    known.given_up(question, Unanswered::Untold);
    assert_eq!(known.question(0, limit, 1, None).owed, 29);
    known.answered(0, limit, question, answer(0, 0), None);
    assert_eq!(known.question(0, limit, 1, None).owed, 0);
    // A request that Redis may have counted is not owed.
    let mut known: Known = Known::default();
    assert!(known.share(0, share, 1, Unanswered::Told).admitted);
    assert_eq!(known.question(0, limit, 1, None).owed, 0);
    assert!(known.share(0, share, 1, Unanswered::Untold).admitted);
    known.share_back(share, 1, Unanswered::Untold);
    assert_eq!(known.question(0, limit, 1, None).owed, 0);
}

/// Three instances, one Redis that goes and comes back: with the script itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_paid_and_a_redis_without_memory_is_told() {
    let redis = RedisServer::start().await;
    let mut connection = connect(&redis);
    let script = redis::Script::new(include_str!("meter.lua"));
    let limit = Limit { per_minute: 60, burst: 90 };
    let limits = limits("");
    let rule = &limits.rules[0];
    let mut room_at = |question: Question, key: &str, at: u64| {
        let numbers: Vec<i64> = script
            .key(key)
            .arg(1_790_000_000_000_000_u64 / 63_000_000 * 63_000_000 + at)
            .arg(3)
            .arg(arguments(&Charge { rule, limit, cost: question.cost }, &question))
            .invoke(&mut connection)
            .unwrap();
        read(&numbers, 1).unwrap()[0]
    };
    let mut ask = |known: &mut Known, key: &str, at: u64| {
        let question = known.question(at, limit, 1, None);
        let answer = room_at(question, key, at);
        known.answered(at, limit, question, answer, None);
        (answer.granted, answer.room)
    };
    let alone = |known: &mut Known, at: u64, times: usize| {
        let share = |_: &usize| known.share(at, limit.share(3), 1, Unanswered::Untold).admitted;
        (0..times).filter(share).count()
    };
    let mut known: Known = Known::default();
    for used in 1..=20 {
        assert_eq!(ask(&mut known, "a", 0), (1, 90 - used));
    }
    // Ten more alone, then the same Redis: 31 are used of 90.
    assert_eq!(alone(&mut known, 0, 50), 10);
    assert_eq!(ask(&mut known, "a", 0), (1, 59));
    // A Redis that lost everything is told of all 31, once.
    assert_eq!(ask(&mut known, "b", 0), (1, 58));
    assert_eq!(ask(&mut known, "b", 0), (1, 57));
    // Another instance of which this meter never heard tells its own, too.
    let mut other: Known = Known::default();
    assert_eq!(alone(&mut other, 0, 5), 5);
    assert_eq!(ask(&mut other, "b", 0), (1, 51));

    // What was used long ago is forgotten when it would have been: it is told in its place.
    let second = 1_000_000;
    let mut old: Known = Known::default();
    assert_eq!(alone(&mut old, 0, 50), 30);
    assert_eq!(ask(&mut old, "c", 50 * second), (1, 59));
    assert_eq!(ask(&mut old, "c", 64 * second), (1, 88));

    // Of two questions at a time one carries what is owed, and it is back when that one was not asked.
    let mut busy: Known = Known::default();
    assert_eq!(alone(&mut busy, 0, 10), 10);
    let first = busy.question(0, limit, 1, None);
    let second = busy.question(0, limit, 1, None);
    assert_eq!((first.owed, second.owed), (10, 0));
    assert!(first.whole.is_some() && second.whole.is_none());
    busy.given_up(second, Unanswered::Untold);
    assert!(busy.settlement(0, true).is_none(), "it is on its way");
    busy.given_up(first, Unanswered::Untold);
    assert_eq!(busy.settlement(0, false).map(|(_, question)| question.owed), Some(10));
}

/// Nobody listens there: every request is decided with this instance's share.
#[tokio::test]
async fn without_redis_everybody_has_a_share() {
    let policy = Policy::default();
    let link = Link::new(settings("redis://127.0.0.1:1"), clock::system());
    let shared = Shared::new(Arc::new(link.unwrap()));
    shared.counted(3);
    let limits = limits("[global.search]\nenabled = true\nper_minute = 90\nburst = 99\n");
    let pass = async |who: u32| {
        let asked = asked(&limits, Class::Search, Who::Address(who));
        let mut passed = 0;
        for _ in 0..60 {
            let verdicts = shared.judge(&asked, &policy.resilience, 0).await;
            passed += usize::from(verdicts.iter().all(|verdict| verdict.refusal().is_none()));
        }
        passed
    };
    // 150 and 99, divided by three.
    assert_eq!(pass(1).await, 33);
    assert_eq!(pass(2).await, 0);
    assert!(shared.is_alone());
}
