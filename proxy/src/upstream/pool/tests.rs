use super::*;
use penstock_config::bootstrap::Scheme;
use penstock_config::clock;
use penstock_config::policy::Policy;
use penstock_engine::resilience::breaker::Forced;

fn pool(hosts: &[&str]) -> Pool {
    let servers: Vec<_> = hosts
        .iter()
        .map(|host| Server { scheme: Scheme::Http, host: (*host).into(), port: 80 })
        .collect();
    let gauges = IntGaugeVec::new(prometheus::Opts::new("healthy", "test"), &["server"]);
    Pool::new(&servers, gauges.unwrap(), &clock::system())
}

fn picks(pool: &Pool, not: Option<&str>, times: usize) -> Vec<String> {
    let not = not.map(|ip| SocketAddr::new(ip.parse().unwrap(), 80));
    let breaker = Policy::default().resilience.breaker;
    let pick = || pool.pick(not, &breaker, clock::now());
    (0..times)
        .map(|_| pick().map_or("none".into(), |p| p.member.address.ip().to_string()))
        .collect()
}

#[test]
fn healthy_servers_take_turns() {
    let pool = pool(&["1.1.1.1", "2.2.2.2", "3.3.3.3"]);
    assert_eq!(picks(&pool, None, 4), ["1.1.1.1", "2.2.2.2", "3.3.3.3", "1.1.1.1"]);
    let second = pool.members()[1].clone();
    second.failed("refused");
    assert!(second.is_healthy(), "one failure is not enough");
    second.failed("refused");
    assert_eq!(picks(&pool, None, 3), ["3.3.3.3", "3.3.3.3", "1.1.1.1"]);
    assert_eq!(pool.status()[1].last_error, "refused");
    second.succeeded(clock::now());
    assert_eq!(picks(&pool, None, 2), ["2.2.2.2", "3.3.3.3"]);
    assert_eq!(pool.status()[1].last_error, "");
}

#[test]
fn a_member_is_probed_once_at_a_time() {
    let pool = pool(&["1.1.1.1"]);
    let members = pool.members();
    let probe = members[0].probe().unwrap();
    assert!(members[0].probe().is_none());
    drop(probe);
    assert!(members[0].probe().is_some());
}

#[test]
fn a_success_between_failures_starts_the_count_again() {
    let pool = pool(&["1.1.1.1"]);
    let only = pool.members()[0].clone();
    for _ in 0..3 {
        only.failed("refused");
        only.succeeded(clock::now());
    }
    only.failed("refused");
    assert!(only.is_healthy());
}

#[test]
fn a_retry_goes_elsewhere_if_it_can() {
    let pool = pool(&["1.1.1.1", "2.2.2.2"]);
    assert_eq!(picks(&pool, Some("1.1.1.1"), 3), ["2.2.2.2"; 3]);
    let second = pool.members()[1].clone();
    second.failed("refused");
    second.failed("refused");
    assert_eq!(picks(&pool, Some("1.1.1.1"), 2), ["1.1.1.1"; 2]);
    assert!(pool.any_healthy());
}

#[test]
fn with_nobody_up_there_is_nobody() {
    let one = pool(&["1.1.1.1"]);
    one.members()[0].failed("x");
    one.members()[0].failed("x");
    assert_eq!(picks(&one, None, 1), ["none"]);
    assert!(!one.any_healthy());
    assert_eq!(picks(&pool(&[]), None, 1), ["none"]);
    assert!(!pool(&[]).is_configured());
}

/// Has the breaker of a member open by failures of its own.
fn trip(member: &Member) {
    let breaker = Policy::default().resilience.breaker;
    for _ in 0..breaker.consecutive_failures {
        let ticket = member.breaker().ticket(&breaker, clock::now()).unwrap();
        member.settled(&breaker, Some(ticket), Some(false), clock::now());
    }
    assert!(member.breaker().is_shut(clock::now()));
}

#[test]
fn a_server_that_fails_often_is_asked_when_there_is_no_other() {
    let pool = pool(&["1.1.1.1", "2.2.2.2"]);
    trip(&pool.members()[0]);
    assert_eq!(picks(&pool, None, 3), ["2.2.2.2"; 3]);
    assert_eq!(picks(&pool, Some("2.2.2.2"), 1), ["2.2.2.2"]);
    trip(&pool.members()[1]);
    assert_eq!(picks(&pool, Some("2.2.2.2"), 1), ["1.1.1.1"]);
    // Seen down and up again, it need not wait for its breaker.
    let first = pool.members()[0].clone();
    first.failed("refused");
    first.failed("refused");
    first.succeeded(clock::now());
    assert!(!first.breaker().is_shut(clock::now()));
}

#[test]
fn what_an_operator_forced_open_is_left_alone() {
    let pool = pool(&["1.1.1.1", "2.2.2.2"]);
    pool.members()[0].breaker().force(Some(Forced::Open));
    assert_eq!(picks(&pool, None, 3), ["2.2.2.2"; 3]);
    pool.members()[1].breaker().force(Some(Forced::Open));
    assert!(!pool.any_healthy());
    assert_eq!(picks(&pool, None, 1), ["none"]);
    pool.members()[0].breaker().force(None);
    assert_eq!(picks(&pool, None, 1), ["1.1.1.1"]);
}

#[test]
fn names_become_members_when_they_are_looked_up() {
    let pool = pool(&["shop.example", "1.1.1.1"]);
    assert!(pool.is_configured());
    assert_eq!(picks(&pool, None, 2), ["1.1.1.1", "1.1.1.1"]);
    let shop = pool.names().next().unwrap().clone();
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
    pool.resolved(&shop, &[at("3.3.3.3"), at("2.2.2.2")]);
    assert_eq!(pool.members().len(), 3);
    let second = pool.members()[1].clone();
    assert_eq!(second.address, at("2.2.2.2"));
    second.failed("refused");
    second.failed("refused");
    // A new answer keeps what is known; an empty one changes nothing.
    pool.resolved(&shop, &[at("2.2.2.2"), at("4.4.4.4")]);
    pool.resolved(&shop, &[]);
    let status: Vec<_> =
        pool.status().into_iter().map(|m| (m.address.ip().to_string(), m.healthy)).collect();
    assert_eq!(
        status,
        [("1.1.1.1".into(), true), ("2.2.2.2".into(), false), ("4.4.4.4".into(), true)]
    );
}
