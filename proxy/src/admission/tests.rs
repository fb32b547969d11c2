use super::*;
use penstock_config::clock::{Clock, Stepped};
use penstock_config::policy::{FileSet, Policy};
use std::net::IpAddr;
use std::time::Duration;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

pub(super) fn limits(text: &str) -> Limits {
    Policy::from_files(&FileSet::of([("limits.toml", text)])).unwrap().0.limits
}

pub(super) fn asked(limits: &Limits, class: Class, who: Who) -> Asked<'_> {
    let (method, path) = ("GET", String::new());
    Asked { limits, class, method, path, who, own_limits: [None; 4], cost: 1 }
}

/// What this process says by itself.
fn here(admission: &Admission, asked: &Asked<'_>, now: Instant) -> Vec<Verdict> {
    let Counting::Here(local) = &admission.counting else { panic!("there is no Redis") };
    local.judge(asked, (now - admission.began).as_micros() as u64)
}

/// Of `count` requests at once, how many pass.
fn passing(admission: &Admission, asked: &Asked<'_>, clock: &dyn Clock, count: usize) -> usize {
    let passes = |_: &usize| {
        let verdicts = here(admission, asked, clock.now());
        verdicts.iter().all(|verdict| verdict.refusal().is_none())
    };
    (0..count).filter(passes).count()
}

#[test]
fn a_client_that_waits_as_it_is_told_is_admitted() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits("");
    let asked = asked(&limits, Class::Search, ADDRESS.into());
    let ask = || here(&admission, &asked, clock.now()).remove(0);
    for n in 1..=150 {
        let verdict = ask();
        assert_eq!((verdict.outcome, verdict.remaining), (Outcome::Admitted, 150 - n));
        assert!(verdict.refusal().is_none());
    }
    let problem = ask().refusal().expect("150 in a minute are enough");
    assert_eq!(problem.kind.status(), 429);
    let wait = problem.retry_after.unwrap();
    // Not before the whole window has passed by: the burst took all of it.
    assert_eq!(wait, Duration::from_secs(63));
    clock.step(Duration::from_micros(62_999_999));
    assert_eq!(ask().outcome, Outcome::Refused);
    clock.step(Duration::from_micros(1));
    assert_eq!(ask().outcome, Outcome::Admitted);
}

#[test]
fn a_shadow_counts_and_tells_nobody() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let shadowed = limits("[address.search]\nshadow = true\n");
    let client = ADDRESS.into();
    let mut last = Vec::new();
    for _ in 0..151 {
        last = here(&admission, &asked(&shadowed, Class::Search, client), clock.now());
    }
    assert_eq!(last[0].outcome, Outcome::WouldRefuse);
    assert!(last[0].refusal().is_none() && headers(&last).is_empty());
    // Enforced from now on: what was counted stays counted.
    let enforced = limits("");
    assert_eq!(passing(&admission, &asked(&enforced, Class::Search, client), &*clock, 1), 0);
}

#[test]
fn a_shadow_beside_a_rule_is_not_in_its_way() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits =
        limits("[rules.tighter]\nclass = \"search\"\nper_minute = 10\nburst = 20\nshadow = true\n");
    let asked = asked(&limits, Class::Search, ADDRESS.into());
    assert_eq!(passing(&admission, &asked, &*clock, 200), 150);
    clock.step(Duration::from_secs(63));
    let verdicts = here(&admission, &asked, clock.now());
    let seen: Vec<_> = verdicts.iter().map(|v| (&*v.rule, v.outcome)).collect();
    let expected = [("address.search", Outcome::Admitted), ("rules.tighter", Outcome::Admitted)];
    assert_eq!(seen, expected);
}

#[test]
fn a_request_is_counted_under_all_rules_or_none() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits(
        "[global.search]\nenabled = true\nper_minute = 100\nburst = 110\n\
         [address.search]\nper_minute = 80\nburst = 90\n",
    );
    let client = |n: u32| asked(&limits, Class::Search, Who::Address(n));
    let admitted_verdicts = here(&admission, &client(1), clock.now());
    assert_eq!(passing(&admission, &client(1), &*clock, 100), 89);
    assert_eq!(passing(&admission, &client(2), &*clock, 100), 20);
    // What everybody's rule refused was not counted under the client's own.
    let verdicts = here(&admission, &client(2), clock.now());
    assert_eq!((verdicts[0].outcome, verdicts[0].remaining), (Outcome::Admitted, 70));
    assert_eq!((verdicts[1].outcome, verdicts[1].scope), (Outcome::Refused, "global"));
    let told = headers(&verdicts);
    // Who refuses is told, and nobody else's use before.
    assert!(told.contains(&("X-RateLimit-Remaining", "0".into())), "{told:?}");
    assert!(headers(&admitted_verdicts).contains(&("X-RateLimit-Limit", "90".into())));
    // Nor the other way round. (Of 110, 106 leaked in 64 seconds.)
    clock.step(Duration::from_secs(64));
    assert_eq!(passing(&admission, &client(3), &*clock, 500), 90);
    assert_eq!(passing(&admission, &client(4), &*clock, 500), 16);
}

#[test]
fn keys_have_limits_of_their_own_and_are_not_counted_by_address() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits("");
    let key = asked(&limits, Class::Search, "key:aaaaaaaaaaaa".parse().unwrap());
    assert_eq!(passing(&admission, &key, &*clock, 2_000), 1_500);
    let mut own = asked(&limits, Class::Passthrough, "key:bbbbbbbbbbbb".parse().unwrap());
    assert_eq!(passing(&admission, &own, &*clock, 500), 500, "not limited by default");
    own.own_limits[Class::Passthrough as usize] = Some(Limit { per_minute: 5, burst: 7 });
    assert_eq!(passing(&admission, &own, &*clock, 500), 7);
    assert_eq!(admission.clients(), 2);
}

#[test]
fn a_request_may_cost_more_than_one() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits("[address.search]\nper_minute = 90\nburst = 100\nweigh = true\n");
    let mut asked = asked(&limits, Class::Search, ADDRESS.into());
    asked.cost = 7;
    assert_eq!(passing(&admission, &asked, &*clock, 50), 14);
    asked.cost = 1;
    assert_eq!(passing(&admission, &asked, &*clock, 50), 2);
    // More than there will ever be room for: all of it.
    clock.step(Duration::from_secs(120));
    asked.cost = 1_000;
    assert_eq!(passing(&admission, &asked, &*clock, 2), 1);
}

#[test]
fn paths_of_the_application_have_rules_of_their_own() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits(
        "[rules.login]\npath = \"/login\"\nmethods = [\"POST\"]\nper_minute = 3\nburst = 5\n",
    );
    let mut asked = asked(&limits, Class::Passthrough, ADDRESS.into());
    asked.path = "/login".into();
    assert_eq!(passing(&admission, &asked, &*clock, 50), 50);
    asked.method = "POST";
    assert_eq!(passing(&admission, &asked, &*clock, 50), 5);
    asked.path = "/logout".into();
    assert_eq!(passing(&admission, &asked, &*clock, 50), 50);
    let login = limits.rules.iter().find(|rule| &*rule.name == "rules.login").unwrap();
    let Counting::Here(local) = &admission.counting else { panic!("there is no Redis") };
    assert!(local.knows(ADDRESS.into(), login.id));
}

#[test]
fn every_endpoint_but_health_has_a_class() {
    for endpoint in Endpoint::ALL {
        assert_eq!(class_of(endpoint).is_none(), endpoint == Endpoint::Health, "{endpoint:?}");
    }
}

#[test]
fn headers_tell_the_verdict() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits("[rules.slow]\nclass = \"search\"\nper_minute = 100\nburst = 120\n");
    let asked = asked(&limits, Class::Search, ADDRESS.into());
    let told = headers(&here(&admission, &asked, clock.now()));
    let expected = [
        ("X-RateLimit-Limit", "120"),
        ("X-RateLimit-Remaining", "119"),
        ("X-RateLimit-Reset", "63"),
        ("RateLimit-Policy", "\"search\";q=150;w=60, \"slow\";q=120;w=60"),
        ("RateLimit", "\"search\";r=149;t=63, \"slow\";r=119;t=63"),
    ];
    let told: Vec<_> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn who_is_over_a_limit_that_degrades_passes_and_is_told() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits("[address.search]\nover_limit = \"degrade\"\n");
    let asked = asked(&limits, Class::Search, ADDRESS.into());
    let ask = || here(&admission, &asked, clock.now()).remove(0);
    for _ in 0..150 {
        assert_eq!(ask().outcome, Outcome::Admitted);
    }
    for _ in 0..10 {
        let verdict = ask();
        assert_eq!((verdict.outcome, verdict.remaining), (Outcome::Degraded, 0));
        assert!(verdict.refusal().is_none());
        let told = headers(&[verdict]);
        assert!(told.contains(&("X-RateLimit-Remaining", "0".into())), "{told:?}");
    }
    // What was degraded was not counted: it is full quality again as if nobody had asked.
    clock.step(Duration::from_secs(63));
    assert_eq!(ask().outcome, Outcome::Admitted);
}

#[test]
fn a_rule_that_degrades_is_asked_about_what_the_others_admit() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now(), None);
    let limits = limits(
        "[address.search]\nper_minute = 30\nburst = 40\n\
         [rules.cheap]\nclass = \"search\"\nper_minute = 10\nburst = 20\nover_limit = \"degrade\"\n",
    );
    let asked = asked(&limits, Class::Search, ADDRESS.into());
    let outcomes: Vec<Vec<Outcome>> = (0..50)
        .map(|_| here(&admission, &asked, clock.now()).iter().map(|v| v.outcome).collect())
        .collect();
    let count = |of: &[Outcome]| outcomes.iter().filter(|seen| *seen == of).count();
    assert_eq!(count(&[Outcome::Admitted, Outcome::Admitted]), 20);
    assert_eq!(count(&[Outcome::Admitted, Outcome::Degraded]), 20);
    assert_eq!(count(&[Outcome::Refused]), 10);
}
