use super::*;
use penstock_config::clock::{Clock, Stepped};
use penstock_config::policy::Policy;

const ADDRESS: &str = "192.0.2.7";

fn ask(admission: &Admission, limits: &Limits, clock: &dyn Clock) -> Verdict {
    let address = ADDRESS.parse().unwrap();
    admission.judge(limits, Class::Search, address, clock.now()).expect("search is limited")
}

#[test]
fn a_client_that_waits_as_it_is_told_is_admitted() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now());
    let limits = Policy::default().limits;
    for n in 1..=150 {
        let verdict = ask(&admission, &limits, &*clock);
        assert_eq!((verdict.outcome, verdict.remaining), (Outcome::Admitted, 150 - n));
        assert!(verdict.refusal().is_none());
    }
    let refused = ask(&admission, &limits, &*clock);
    let problem = refused.refusal().expect("150 in a minute are enough");
    assert_eq!(problem.kind.status(), 429);
    let wait = problem.retry_after.unwrap();
    // Not before the whole window has passed by: the burst took all of it.
    assert_eq!(wait, Duration::from_secs(63));
    clock.step(Duration::from_micros(62_999_999));
    assert_eq!(ask(&admission, &limits, &*clock).outcome, Outcome::Refused);
    clock.step(Duration::from_micros(1));
    assert_eq!(ask(&admission, &limits, &*clock).outcome, Outcome::Admitted);
}

#[test]
fn a_shadow_counts_and_tells_nobody() {
    let clock = Stepped::at(0);
    let admission = Admission::new(clock.now());
    let mut limits = Policy::default().limits;
    let search = limits.address[Class::Search as usize].as_mut().unwrap();
    search.shadow = true;
    let verdicts: Vec<_> = (0..151).map(|_| ask(&admission, &limits, &*clock)).collect();
    let last = &verdicts[150];
    assert_eq!(last.outcome, Outcome::WouldRefuse);
    assert!(last.refusal().is_none() && last.headers().is_empty());
    // Enforced from now on: what was counted stays counted.
    limits.address[Class::Search as usize].as_mut().unwrap().shadow = false;
    assert_eq!(ask(&admission, &limits, &*clock).outcome, Outcome::Refused);
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
    let admission = Admission::new(clock.now());
    let verdict = ask(&admission, &Policy::default().limits, &*clock);
    let headers = verdict.headers();
    let expected = [
        ("X-RateLimit-Limit", "150"),
        ("X-RateLimit-Remaining", "149"),
        ("X-RateLimit-Reset", "63"),
        ("RateLimit-Policy", "\"search\";q=150;w=60"),
        ("RateLimit", "\"search\";r=149;t=63"),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(headers, expected);
}
