//! Several instances count together through Redis, and each goes on when it is gone.

use penstock_config::clock;
use penstock_tests::redis::{RedisCluster, RedisServer};
use penstock_tests::{Penstock, Shop, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Requests in any minute.
const BURST: usize = 300;
const LIMITS: &str = "[address.passthrough]\nenabled = true\nper_minute = 200\nburst = 300\n";
/// Quick to try again.
const BREAKER: &str = "[breaker]\nopen = \"1s\"\nmax_open = \"2s\"\n";

struct Fleet(Vec<Arc<Penstock>>);

impl Fleet {
    /// `count` instances over one Redis, which know of each other.
    async fn start(count: usize, redis: &str, limits: &str) -> Self {
        let mut fleet = Vec::new();
        for n in 0..count {
            let instance = Penstock::over(Shop::empty())
                .env("PENSTOCK_REDIS_URL", redis)
                .env("PENSTOCK_INSTANCE", format!("instance-{n}"))
                .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
                .policy("limits.toml", limits)
                .policy("resilience.toml", BREAKER)
                .spawn();
            fleet.push(instance);
        }
        for instance in &mut fleet {
            instance.wait_alive().await;
        }
        let fleet = Self(fleet.into_iter().map(Arc::new).collect());
        fleet.until("all instances are counted", |limits| limits["instances"] == count).await;
        fleet
    }

    /// Waits until every instance says so of its limits.
    async fn until(&self, what: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        for instance in &self.0 {
            until(what, Duration::from_secs(30), async || {
                holds(&instance.status().await["limits"]).then_some(())
            })
            .await;
        }
    }

    /// Floods all instances in the name of `client` until `enough`; how many passed. Anything but a
    /// page and a refusal fails the test.
    async fn flood(&self, client: &str, enough: impl Fn(&Flood) -> bool + Copy) -> Flood {
        let flood = Arc::new(Flood::default());
        let mut workers = tokio::task::JoinSet::new();
        for instance in &self.0 {
            for _ in 0..2 {
                let (instance, flood, client) =
                    (instance.clone(), flood.clone(), client.to_owned());
                workers.spawn(async move {
                    while !flood.ended.load(Ordering::Relaxed) {
                        flood.count(passes(&instance, &client).await);
                    }
                });
            }
        }
        until("the flood has done its work", Duration::from_secs(60), async || {
            enough(&flood).then_some(())
        })
        .await;
        flood.ended.store(true, Ordering::Relaxed);
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        Arc::into_inner(flood).unwrap()
    }
}

#[derive(Debug, Default)]
struct Flood {
    passed: AtomicUsize,
    refused: AtomicUsize,
    ended: std::sync::atomic::AtomicBool,
}

impl Flood {
    fn count(&self, passed: bool) {
        let counter = if passed { &self.passed } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

/// One request of `client`; there is no application, so a page that is let through is 404.
async fn passes(instance: &Penstock, client: &str) -> bool {
    let request = instance.request("GET", "/page").header("x-forwarded-for", client);
    match instance.send(request).await.status {
        404 => true,
        429 => false,
        status => panic!("{status}"),
    }
}

/// Of `count` requests one after the other, how many pass.
async fn passing(instance: &Penstock, client: &str, count: usize) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        passed += usize::from(passes(instance, client).await);
    }
    passed
}

#[tokio::test]
async fn a_fleet_admits_what_one_would() {
    let redis = RedisServer::start().await;
    let fleet = Fleet::start(3, &redis.url(), LIMITS).await;
    let began = clock::now();
    let flood = fleet.flood("203.0.113.1", |flood| flood.refused() > 600).await;
    // 200 a minute come back while it lasts; the window has no room for any of them.
    assert!((clock::now() - began) < Duration::from_secs(55));
    assert_eq!(flood.passed(), BURST);
    // Somebody else is somebody else, on every instance.
    for (n, instance) in fleet.0.iter().enumerate() {
        assert_eq!(passing(instance, "203.0.113.2", 5).await, 5, "instance {n}");
    }
    // Most of the flood cost no round trip.
    let mut calls = 0;
    for instance in &fleet.0 {
        calls += instance.status().await["redis"]["calls"]["ok"].as_u64().unwrap();
    }
    assert!(calls < 500, "{calls} calls for {} requests", flood.passed() + flood.refused());
}

#[tokio::test]
async fn a_fleet_that_takes_batches_stays_within_its_bound() {
    let redis = RedisServer::start().await;
    let limits = format!("mode = \"leased\"\n[lease]\npercent = 5\n{LIMITS}");
    let fleet = Fleet::start(3, &redis.url(), &limits).await;
    let flood = fleet.flood("203.0.113.1", |flood| flood.refused() > 600).await;
    let bound = BURST + 3 * BURST / 20;
    assert!((BURST * 8 / 10..=bound).contains(&flood.passed()), "{} passed", flood.passed());
    let mut calls = 0;
    for instance in &fleet.0 {
        let metrics = String::from_utf8(instance.ops("/metrics").await.body.to_vec()).unwrap();
        let by = "penstock_rate_limit_decision_seconds_count{by=\"redis\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(by)).unwrap();
        calls += line.parse::<usize>().unwrap();
    }
    assert!(calls < flood.passed(), "{calls} calls for {} requests", flood.passed());
}

#[tokio::test]
async fn killing_redis_under_load_opens_nothing_and_closes_nothing() {
    let mut redis = RedisServer::start().await;
    let fleet = Fleet::start(3, &redis.url(), LIMITS).await;
    let first = fleet.flood("203.0.113.1", |flood| flood.passed() > BURST / 2).await.passed();
    let killing = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        redis.kill();
    };
    let flood = fleet.flood("203.0.113.1", |flood| flood.refused() > 600);
    let (flood, ()) = tokio::join!(flood, killing);
    until("every instance is alone", Duration::from_secs(30), async || {
        for instance in &fleet.0 {
            // Somebody has to ask: whom Redis told to wait is refused without it.
            passes(instance, "203.0.113.8").await;
            if instance.status().await["limits"]["with_own_share"] == false {
                return None;
            }
        }
        Some(())
    })
    .await;
    let total = first + flood.passed();
    assert!((BURST - 1..=2 * BURST).contains(&total), "{total} passed");
    // Nobody is shut out: who is new has a third on each instance.
    for instance in &fleet.0 {
        assert_eq!(passing(instance, "203.0.113.2", BURST).await, BURST / 3);
    }

    // It comes back and knows nothing. What was used is told, and the count is right again.
    redis.restart().await;
    until("every instance counts together", Duration::from_secs(30), async || {
        for instance in &fleet.0 {
            // Somebody has to ask.
            passes(instance, "203.0.113.9").await;
            if instance.status().await["limits"]["with_own_share"] == true {
                return None;
            }
        }
        Some(())
    })
    .await;
    for client in ["203.0.113.1", "203.0.113.2"] {
        for instance in &fleet.0 {
            // 200 a minute leak while this test runs, but the window is full for a minute.
            let more = passing(instance, client, 30).await;
            assert!(more <= 10, "{client}: {more} more");
        }
    }
    let flood = fleet.flood("203.0.113.3", |flood| flood.refused() > 100).await;
    assert_eq!(flood.passed(), BURST);
}

#[tokio::test]
async fn a_frozen_redis_holds_nobody_up() {
    let redis = RedisServer::start().await;
    let fleet = Fleet::start(1, &redis.url(), LIMITS).await;
    let instance = &fleet.0[0];
    assert_eq!(passing(instance, "203.0.113.1", 5).await, 5);
    redis.freeze();
    let mut waits: Vec<Duration> = Vec::new();
    for _ in 0..40 {
        let began = clock::now();
        assert!(passes(instance, "203.0.113.1").await);
        waits.push(clock::now() - began);
    }
    waits.sort();
    // The deadline is 50 ms, and after a few of them nobody waits at all.
    assert!(waits[20] < Duration::from_millis(40), "{waits:?}");
    assert!(waits[39] < Duration::from_secs(2), "{waits:?}");
    redis.thaw();
    until("they count together again", Duration::from_secs(30), async || {
        passes(instance, "203.0.113.9").await;
        (instance.status().await["limits"]["with_own_share"] == false).then_some(())
    })
    .await;
    // 45 were admitted, some of them counted twice at worst.
    let more = passing(instance, "203.0.113.1", BURST).await;
    assert!((BURST - 70..=BURST - 40).contains(&more), "{more} more");
}

#[tokio::test]
async fn a_cluster_counts_and_outlives_a_node() {
    let mut cluster = RedisCluster::with_replicas(3).await;
    let fleet = Fleet::start(3, &cluster.url(), LIMITS).await;
    // Clients in every part of the cluster.
    let flood = fleet.flood("203.0.113.1", |flood| flood.refused() > 300).await;
    assert_eq!(flood.passed(), BURST);
    let flood = fleet.flood("203.0.113.4", |flood| flood.passed() > BURST / 3);
    let killing = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.masters[0].kill();
    };
    let (first, ()) = tokio::join!(flood, killing);
    let rest = fleet.flood("203.0.113.4", |flood| flood.refused() > 300).await;
    let total = first.passed() + rest.passed();
    assert!((BURST - 3..=2 * BURST).contains(&total), "{total} passed");
    cluster.wait_failover(0).await;
    until("every instance counts together", Duration::from_secs(60), async || {
        for instance in &fleet.0 {
            for n in 0..9 {
                passes(instance, &format!("198.51.100.{n}")).await;
                if instance.status().await["limits"]["with_own_share"] == true {
                    return None;
                }
            }
        }
        Some(())
    })
    .await;
    for client in ["203.0.113.5", "203.0.113.6", "203.0.113.7"] {
        let flood = fleet.flood(client, |flood| flood.refused() > 100).await;
        assert_eq!(flood.passed(), BURST, "{client}");
    }
}
