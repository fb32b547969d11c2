//! The link to Redis against real servers: what each fault looks like to a caller, within the
//! deadline, and that the link recovers from it by itself.

mod board;
mod cache;
mod cluster;
mod faults;
mod link;
mod sentinel;
mod subscription;

use penstock_config::bootstrap::Redis;
use penstock_config::clock;
use penstock_config::policy::{Policy, Resilience};
use penstock_engine::redis::{Link, Trouble, cmd};
use penstock_tests::wait::{until, until_true};
use std::time::Duration;

/// Above every timer of the link: reconnecting, a breaker of 200 ms, a failover.
const PATIENCE: Duration = Duration::from_secs(20);
/// A call's deadline is 50 ms; a machine that is busy building has a slow scheduler.
const PROMPT: Duration = Duration::from_millis(400);

/// For scripts that take keys only.
const NO_ARGS: &[&str] = &[];

fn settings(url: &str) -> Redis {
    let url = url.parse().unwrap_or_else(|why| panic!("{why}"));
    Redis { url, password_file: None, namespace: "test".into() }
}

fn link(url: &str) -> Link {
    Link::new(settings(url), clock::system()).expect("threads")
}

/// A link that is connected.
async fn connected(url: &str) -> Link {
    let link = link(url);
    until_true("a connection", PATIENCE, async || link.is_connected()).await;
    link
}

/// As shipped, but for a breaker that is tried again soon.
fn policy() -> Resilience {
    let mut policy = Policy::default().resilience;
    policy.breaker.open = Duration::from_millis(200);
    policy.breaker.max_open = Duration::from_millis(400);
    policy.breaker.probe_timeout = Duration::from_millis(200);
    policy.breaker.half_open_share = 1.0;
    policy
}

/// A policy whose deadline is for tests that are not about it.
fn patient() -> Resilience {
    let mut policy = policy();
    policy.redis.timeout = Duration::from_secs(2);
    policy
}

async fn ping(link: &Link) -> Result<String, Trouble> {
    link.call(&policy(), &cmd("PING")).await
}

/// Calls until one succeeds.
async fn recovered(link: &Link) {
    until_true("the link works again", PATIENCE, async || ping(link).await.is_ok()).await;
}

/// Calls until there is trouble of this name; every call on the way is prompt.
async fn trouble(link: &Link, name: &str) -> Trouble {
    until(name, PATIENCE, async || {
        let started = clock::now();
        let result = ping(link).await;
        assert!(started.elapsed() < PROMPT, "{result:?} took {:?}", started.elapsed());
        result.err().filter(|trouble| trouble.name() == name)
    })
    .await
}
