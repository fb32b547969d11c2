use super::*;
use penstock_config::policy::Policy;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z, microseconds.
const BEGAN: i64 = 1_767_225_600_000_000;

fn policy() -> Abuse {
    Policy::default().limits.abuse
}

fn who(text: &str) -> Who {
    text.parse().unwrap()
}

/// A detector and one client's view of it.
struct Client<'d> {
    detector: &'d Detector,
    policy: Abuse,
    who: Who,
}

impl<'d> Client<'d> {
    fn of(detector: &'d Detector, address: &str) -> Self {
        Self { detector, policy: policy(), who: who(address) }
    }

    fn ask(&self, asked: Asked<'_>, now: u64) -> Option<Penalty> {
        self.detector.look(&self.policy, self.who, asked, now)
    }

    /// Asks a query until it is refused, which has to happen at the 21st time.
    fn repeat(&self, query: &str, now: u64) -> Penalty {
        for n in 1..=20 {
            assert_eq!(self.ask(Asked::Query(query), now), None, "the {n}th time");
        }
        self.ask(Asked::Query(query), now).expect("21 times are too often")
    }

    /// Which of these products, a second apart from `now` on, is the first to be refused.
    fn first_refused<I: AsRef<str>>(&self, ids: impl IntoIterator<Item = I>) -> Option<usize> {
        let mut at = 0;
        ids.into_iter().position(|id| {
            at += SECOND;
            self.ask(Asked::Product(id.as_ref()), at).is_some()
        })
    }

    fn row(&self, now: u64) -> Option<Flagged> {
        let unix = BEGAN + (now / 1_000) as i64;
        let rows = self.detector.flagged(&self.policy, now, unix);
        rows.into_iter().find(|row| row.client == self.who)
    }
}

#[test]
fn a_repeated_query_costs_that_query_first() {
    let detector = Detector::default();
    let client = Client::of(&detector, "192.0.2.7");
    let found = client.repeat("lamp", 5 * SECOND);
    assert_eq!((found.pattern, found.offences), (Pattern::RepeatedQuery, 1));
    assert_eq!((found.retry_after.as_secs(), found.found.as_deref()), (60, Some("lamp")));
    assert!(!found.shadow);
    // Nothing else of it, and nobody else.
    for asked in [Asked::Query("lamps"), Asked::Product("SHO-1"), Asked::Other] {
        assert_eq!(client.ask(asked, 6 * SECOND), None, "{asked:?}");
    }
    let other = Client::of(&detector, "192.0.2.8");
    assert_eq!(other.ask(Asked::Query("lamp"), 6 * SECOND), None);
    let again = client.ask(Asked::Query("lamp"), 6 * SECOND).expect("refused");
    assert_eq!((again.retry_after.as_secs(), again.found), (59, None));
}

#[test]
fn penalties_grow_end_when_they_say_and_are_forgotten() {
    let detector = Detector::default();
    let client = Client::of(&detector, "192.0.2.7");
    let mut now = 0;
    for (offence, expected) in [(1, 60), (2, 240), (3, 960), (4, 3_600), (5, 3_600)] {
        let found = client.repeat("lamp", now);
        assert_eq!((found.offences, found.retry_after.as_secs()), (offence, expected));
        let everything = client.ask(Asked::Other, now).is_some();
        assert_eq!(everything, offence > 1, "offence {offence}");
        // Asking on does not prolong it.
        let end = now + expected * SECOND;
        for early in [now, now + 1, end - SECOND, end - 1] {
            let refused = client.ask(Asked::Query("lamp"), early).expect("before its end");
            assert_eq!(refused.retry_after.as_nanos(), u128::from(end - early));
        }
        now = end;
    }
    // The last day: an offence in it is one more, the first after it is a first one.
    let day = 24 * 3_600 * SECOND;
    now += day - 1;
    assert_eq!(client.repeat("lamp", now).offences, 6);
    now += 3_600 * SECOND + day;
    assert_eq!(client.repeat("lamp", now).offences, 1);
}

#[test]
fn walks_are_found_in_either_direction_and_among_other_ids() {
    let check = |ids: Vec<String>, expected: Option<usize>| {
        let detector = Detector::default();
        let client = Client::of(&detector, "192.0.2.7");
        assert_eq!(client.first_refused(&ids), expected, "{ids:?}");
    };
    let ids = |numbers: &mut dyn Iterator<Item = u32>| -> Vec<String> {
        numbers.map(|number| format!("SHO-{number:05}")).collect()
    };
    check(ids(&mut (1_100..1_144)), Some(19));
    check(ids(&mut (1_100..1_144).rev()), Some(19));
    check(ids(&mut (0..4_000).step_by(100)), Some(19));
    check(ids(&mut (0..4_040).step_by(101)), None);
    check(ids(&mut (9_990..10_100)), Some(19));
    // Ten in a row, out of a list, and somewhere else again.
    let lists = (0..20).flat_map(|list| list * 500..list * 500 + 10);
    check(ids(&mut lists.into_iter()), None);
    // Each product with what is similar to it.
    check(ids(&mut (1..100).flat_map(|n| [n, n])), Some(38));
    // Three others after each step.
    let noise = |n: u32| [n, n * 7_919 % 99_991, n * 104_729 % 99_991, n * 1_299_709 % 99_991];
    check(ids(&mut (1..40).flat_map(noise)), Some(19 * 4));
    // Widths that change, and other series in between.
    check((1..40).map(|n| format!("p{n}")).collect(), Some(19));
    check((1..40).flat_map(|n| [format!("a{n}"), format!("b{}", n * n * 131)]).collect(), Some(38));
    check((1..40).map(|n| format!("{n}-{n}")).collect(), None);
}

#[test]
fn a_walk_costs_the_products_first() {
    let detector = Detector::default();
    let client = Client::of(&detector, "2001:db8:0:1::5");
    let ids = (1_100..1_120).map(|number| format!("SHO-{number:05}"));
    assert_eq!(client.first_refused(ids), Some(19));
    let now = 21 * SECOND;
    assert!(client.ask(Asked::Product("lamp"), now).is_some());
    assert_eq!(client.ask(Asked::Query("lamp"), now), None);
    assert_eq!(client.ask(Asked::Other, now), None);
    let row = client.row(now).expect("listed");
    assert_eq!(row.evidence, "SHO-01100 to SHO-01119 in steps of 1, 20 products");
    assert_eq!((row.pattern, row.scope), (Pattern::SequentialIds, Scope::Products));
    assert_eq!((row.offences, row.refused), (1, 2));
    let began = BEGAN / 1_000_000;
    assert_eq!((row.first_seen, row.last_seen), (began + 20, began + 21));
    assert_eq!(row.penalty_until, began + 80);
    // After it, the next product passes, and so do the ones after it up to another walk.
    let ids = (1_120..1_139).map(|number| format!("SHO-{number:05}"));
    for (id, at) in ids.zip(80..) {
        assert_eq!(client.ask(Asked::Product(&id), at * SECOND), None, "{id}");
    }
    let again = client.ask(Asked::Product("SHO-01139"), 99 * SECOND).expect("20 more");
    assert_eq!((again.scope, again.offences), (Scope::Client, 2));
}

#[test]
fn twenty_shoppers_behind_one_address_are_not_hurt() {
    let detector = Detector::default();
    let office = Client::of(&detector, "192.0.2.7");
    let wanted = ["lamp", "desk lamp", "mug", "red shoes", "laser printer", "chair", "usb c cable"];
    for second in 0..600_u64 {
        let now = second * SECOND;
        for shopper in 0..20_u64 {
            let turn = second * 20 + shopper;
            let query = format!("{} {}", wanted[turn as usize % 7], shopper % 5);
            // Each asks every 40 seconds and looks at one of the products found.
            if turn % 40 == shopper {
                assert_eq!(office.ask(Asked::Query(&query), now), None, "{query}");
                let id = format!("SHO-{:05}", turn * 7_919 % 20_000);
                assert_eq!(office.ask(Asked::Product(&id), now), None, "{id}");
            }
        }
    }
    // With keys they may even all want the same.
    let policy = policy();
    for n in 0..20 * 20_u32 {
        let key = Who::Key([0, n % 20]);
        assert_eq!(detector.look(&policy, key, Asked::Query("lamp"), 0), None);
    }
    assert_eq!(detector.remembered().flagged, 0);
}

#[test]
fn a_shadow_finds_counts_lists_and_refuses_nothing() {
    let detector = Detector::default();
    let mut client = Client::of(&detector, "192.0.2.7");
    client.policy.shadow = true;
    let found = client.repeat("lamp", 0);
    assert!(found.shadow && found.found.is_some());
    assert!(client.ask(Asked::Query("lamp"), 1).expect("would be refused").shadow);
    let row = client.row(1).expect("listed");
    assert!(row.shadow);
    assert_eq!(row.refused, 2);
    // Enforced from now on: what was found stays found.
    client.policy.shadow = false;
    assert!(!client.ask(Asked::Query("lamp"), 2).expect("refused").shadow);
}

#[test]
fn what_is_switched_off_neither_finds_nor_refuses() {
    let detector = Detector::default();
    let mut client = Client::of(&detector, "192.0.2.7");
    client.repeat("lamp", 0);
    client.policy.repeated_query.enabled = false;
    assert_eq!(client.ask(Asked::Query("lamp"), 1), None);
    assert_eq!(client.first_refused((0..40).map(|n| n.to_string())), Some(19));
    client.policy.sequential_ids.enabled = false;
    assert_eq!(client.first_refused((0..40).map(|n| n.to_string())), None);
    client.policy = Abuse { enabled: false, ..policy() };
    assert!((0..100).all(|_| client.ask(Asked::Query("mug"), 0).is_none()));
}

#[test]
fn a_pardon_forgets_everything_about_one_client() {
    let detector = Detector::default();
    let (one, other) = (Client::of(&detector, "192.0.2.7"), Client::of(&detector, "192.0.2.8"));
    for client in [&one, &other] {
        client.repeat("lamp", 0);
        client.repeat("mug", 0);
        assert!(client.ask(Asked::Other, 1).is_some());
    }
    assert!(detector.pardon(one.who));
    assert!(!detector.pardon(one.who));
    assert!(other.ask(Asked::Other, 2).is_some());
    // Not one of its queries is counted, and the next offence is a first one.
    assert_eq!(one.repeat("lamp", 2).offences, 1);
    assert_eq!(detector.remembered().flagged, 2);
    let fresh = Client::of(&detector, "192.0.2.9");
    for _ in 0..20 {
        fresh.ask(Asked::Query("lamp"), 3);
    }
    assert!(!detector.pardon(fresh.who), "it is not on the list");
    fresh.repeat("lamp", 3);
}

#[test]
fn the_list_is_latest_first_and_survives_a_restart() {
    let detector = Detector::default();
    for n in 1..=3 {
        let client = Client::of(&detector, &format!("192.0.2.{n}"));
        client.repeat("a \u{1b}[31mlamp", n * SECOND);
    }
    let rows = detector.flagged(&policy(), 9 * SECOND, BEGAN + 9_000_000);
    let clients: Vec<_> = rows.iter().map(|row| row.client.to_string()).collect();
    assert_eq!(clients, ["192.0.2.3", "192.0.2.2", "192.0.2.1"]);
    assert_eq!(rows[0].evidence, "a \\u{1b}[31mlamp");
    let json = serde_json::to_string(&rows).unwrap();
    assert!(json.contains(r#""client":"192.0.2.3","pattern":"repeated_query""#), "{json}");
    assert!(json.contains(r#""scope":{"of":"query","digest":"#), "{json}");
    let read: Vec<Flagged> = serde_json::from_str(&json).unwrap();
    assert_eq!(read, rows);

    // Another process, begun ten seconds after the first offence of the third.
    let after = Detector::default();
    let began = BEGAN + 13_000_000;
    assert_eq!(after.import(&policy(), &read, 0, began), 3);
    assert_eq!(after.import(&policy(), &read, 0, began), 0, "nothing is news twice");
    assert_eq!(after.flagged(&policy(), 0, began), rows);
    let client = Client::of(&after, "192.0.2.3");
    let refused = client.ask(Asked::Query("a \u{1b}[31mlamp"), 0).expect("still refused");
    assert_eq!(refused.retry_after.as_secs(), 50);
    assert_eq!(client.ask(Asked::Query("a \u{1b}[31mlamp"), 50 * SECOND), None);
    assert_eq!(client.repeat("mug", 50 * SECOND).offences, 2);
    // A day after its end, it is not worth taking.
    assert_eq!(after.import(&policy(), &read, 0, BEGAN + 100_000 * 1_000_000), 0);
    // Nobody is made to wait longer than the policy allows, whoever wrote the list.
    let forged =
        Flagged { penalty_until_micros: i64::MAX, first_seen: i64::MIN, ..read[0].clone() };
    let forged = Flagged { last_offence_micros: i64::MAX, ..forged };
    let forged = Flagged { client: who("10.0.0.1"), scope: Scope::Client, ..forged };
    assert_eq!(after.import(&policy(), &[forged], 0, began), 1);
    let refused = Client::of(&after, "10.0.0.1").ask(Asked::Other, 0).expect("refused");
    assert_eq!(refused.retry_after, policy().penalty.longest);
}

#[test]
fn lists_are_merged() {
    let (here, there) = (Detector::default(), Detector::default());
    let (one, two) = (Client::of(&here, "192.0.2.7"), Client::of(&there, "192.0.2.7"));
    one.repeat("lamp", 0);
    two.repeat("mug", 0);
    two.repeat("mug", 60 * SECOND);
    let now = 61 * SECOND;
    let rows = there.flagged(&policy(), now, BEGAN);
    here.import(&policy(), &rows, now, BEGAN);
    assert_eq!(one.row(now).map(|row| (row.offences, row.evidence)), Some((2, "mug".into())));
    // What is known here and worse is kept.
    let mut rows = here.flagged(&policy(), now, BEGAN);
    rows[0].offences = 1;
    rows[0].penalty_until_micros -= 100;
    here.import(&policy(), &rows, now, BEGAN);
    let refused = one.ask(Asked::Other, now).expect("refused");
    assert_eq!((refused.offences, refused.retry_after.as_secs()), (2, 239));
}

#[test]
fn memory_is_bounded_however_many_clients_there_are() {
    let detector = Detector::default();
    let policy = Abuse { max_clients: 6_400, max_flagged: 640, ..policy() };
    for n in 0..50_000_u32 {
        let who = Who::Address(n);
        assert_eq!(detector.look(&policy, who, Asked::Query("lamp"), 0), None);
        assert_eq!(detector.look(&policy, who, Asked::Product("7"), 0), None);
    }
    let remembered = detector.remembered();
    assert_eq!((remembered.queries, remembered.clients), (6_400, 6_400));
    for n in 0..2_000 {
        for _ in 0..21 {
            detector.look(&policy, Who::Address(n), Asked::Query("mug"), 0);
        }
    }
    let flagged = detector.remembered().flagged;
    assert!((600..=640).contains(&flagged), "{flagged}");
    assert_eq!(detector.flagged(&policy, 0, BEGAN).len(), flagged);
}

#[test]
fn a_flood_of_clients_does_not_hide_one_that_repeats() {
    let detector = Detector::default();
    let policy = Abuse { max_clients: 6_400, ..policy() };
    let busy = who("192.0.2.7");
    // Twice at first: worth more than those that ask once.
    for _ in 0..2 {
        detector.look(&policy, busy, Asked::Query("lamp"), 0);
    }
    let found = (0..19_u32).any(|round| {
        for n in 0..7_000 {
            detector.look(&policy, Who::Network([round, n]), Asked::Query("lamp"), 0);
        }
        detector.look(&policy, busy, Asked::Query("lamp"), 0).is_some()
    });
    assert!(found);
    assert!(detector.remembered().queries <= 6_400);
}

#[test]
fn hostile_requests_are_only_requests() {
    let detector = Detector::default();
    let client = Client::of(&detector, "192.0.2.7");
    let long = "9".repeat(10_000);
    let letters = "x".repeat(10_000);
    let ids = ["", "-", "\0", "\u{202e}7", "٣", &long, &letters, "18446744073709551616", "0"];
    for id in ids.iter().cycle().take(400) {
        assert_eq!(client.ask(Asked::Product(id), 0), None, "{id:.20}");
    }
    for _ in 0..100 {
        assert_eq!(client.ask(Asked::Query(""), 0), None);
    }
    client.repeat(&letters, 0);
    assert_eq!(client.row(0).unwrap().evidence.chars().count(), 101);
    assert!(client.ask(Asked::Query(&letters), 1).is_some());
    // The end of time is no end of the process.
    assert_eq!(client.ask(Asked::Query("lamp"), u64::MAX), None);
    assert_eq!(client.ask(Asked::Product("7"), u64::MAX), None);
}

#[test]
fn threads_agree_on_the_number_of_offenders() {
    let detector = Detector::default();
    let policy = policy();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let detector = &detector;
            scope.spawn(move || {
                for n in 0..4_000_u32 {
                    let who = Who::Address(n % 50);
                    detector.look(&policy, who, Asked::Query("lamp"), u64::from(n) * 1_000_000);
                    if n % 97 == thread {
                        detector.pardon(who);
                    }
                }
            });
        }
    });
    let listed = detector.flagged(&policy, 5 * SECOND, BEGAN).len();
    assert_eq!(detector.remembered().flagged, listed);
}

/// Moments in milliseconds, in order.
fn moments(most: usize) -> impl Strategy<Value = Vec<u64>> {
    let pause = prop_oneof![Just(0), 0..500_u64, 2_900..3_100_u64, 0..20_000_u64];
    prop::collection::vec(pause, 1..most).prop_map(|pauses| {
        let mut at = 0;
        let moments = pauses.into_iter().map(|pause| {
            at += pause;
            at
        });
        moments.collect()
    })
}

proptest! {
    /// Whoever asks at most 20 times in any 60 seconds is never found out, whenever that is.
    #[test]
    fn who_keeps_to_the_threshold_is_never_flagged(moments in moments(400)) {
        let detector = Detector::default();
        let client = Client::of(&detector, "192.0.2.7");
        let mut asked: Vec<u64> = Vec::new();
        for at in moments {
            if asked.iter().filter(|&&before| at - before < 60_000).count() == 20 {
                continue;
            }
            asked.push(at);
            prop_assert_eq!(client.ask(Asked::Query("lamp"), at * 1_000_000), None, "{:?}", asked);
        }
    }

    /// Whoever asks 21 times in 57 seconds always is.
    #[test]
    fn who_does_not_is_always_flagged(
        start in 0..100_000_u64,
        mut offsets in prop::collection::vec(0..=57_000_u64, 21),
    ) {
        offsets.sort_unstable();
        let detector = Detector::default();
        let client = Client::of(&detector, "192.0.2.7");
        let refused = offsets
            .iter()
            .filter(|&&offset| client.ask(Asked::Query("lamp"), (start + offset) * 1_000_000).is_some());
        prop_assert_eq!(refused.count(), 1);
    }

    /// What one client may is decided by its own requests alone.
    #[test]
    fn nobody_pays_for_another(
        requests in prop::collection::vec((0..3_u32, 0..2_u32, 0..12_u32, 0..500_u64), 0..400),
    ) {
        let (together, policy) = (Detector::default(), policy());
        let alone: Vec<Detector> = (0..3).map(|_| Detector::default()).collect();
        let mut next = [0; 3];
        let mut now = 0;
        for (client, kind, what, pause) in requests {
            now += pause * 1_000_000;
            let number = &mut next[client as usize];
            *number += u32::from(what > 0);
            let text = if kind == 0 { format!("q{}", what % 2) } else { format!("p{number}") };
            let asked = if kind == 0 { Asked::Query(&text) } else { Asked::Product(&text) };
            let who = Who::Address(client);
            let same = alone[client as usize].look(&policy, who, asked, now);
            prop_assert_eq!(together.look(&policy, who, asked, now), same);
        }
    }
}
