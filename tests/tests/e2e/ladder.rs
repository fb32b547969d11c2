//! There is more to do than can be done: less is done for each, nothing is refused, and it comes back.

use penstock_config::clock;
use penstock_tests::{Penstock, RedisServer, Reply, Shop, until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Every answer is computed.
const NO_CACHE: &str = "enabled = false\n";
/// A search that is long enough for the rest of the proxy, and for this test, not to be what is measured.
const THOROUGH: &str = "[keyword]\ncandidates = 1000\n[semantic]\ncandidates = 1000\n";
const WORDS: [&str; 8] = ["red", "steel", "large", "mug", "lamp", "garden", "soft", "kitchen"];

/// A search nobody asked before.
fn target(number: usize) -> String {
    let word = |place: usize| WORDS[number / WORDS.len().pow(place as u32) % WORDS.len()];
    format!("/search?q={}+{}+{}+{number}&k=100", word(0), word(1), word(2))
}

fn mode(reply: &Reply) -> String {
    reply.header("x-penstock-mode").to_owned()
}

/// Searches of `clients` clients for `lasts`, each with one under way and `pause` between two.
async fn searches(
    penstock: &Arc<Penstock>,
    number: &Arc<AtomicUsize>,
    clients: usize,
    pause: Duration,
    lasts: Duration,
) -> Vec<(Duration, Reply)> {
    let end = clock::now() + lasts;
    let mut asking = JoinSet::new();
    for _ in 0..clients {
        let (penstock, number) = (penstock.clone(), number.clone());
        asking.spawn(async move {
            let mut replies = Vec::new();
            let mut next = clock::now();
            while clock::now() < end {
                let sent = clock::now();
                let reply = penstock.get(&target(number.fetch_add(1, Ordering::Relaxed))).await;
                replies.push((clock::now() - sent, reply));
                // At an even pace, as far as the answers let it.
                next = (next + pause).max(sent);
                tokio::time::sleep_until(next.into()).await;
            }
            replies
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

fn by_mode(replies: &[(Duration, Reply)]) -> BTreeMap<String, usize> {
    let mut modes = BTreeMap::new();
    for (_, reply) in replies {
        assert_eq!(reply.status, 200, "{}", reply.describe());
        *modes.entry(mode(reply)).or_default() += 1;
    }
    modes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_too_much_is_answered_in_cheaper_modes_and_full_quality_comes_back() {
    const CLIENTS: usize = 40;
    let penstock = Penstock::over(Shop::demo())
        .env("PENSTOCK_WORKERS", 1)
        .policy("cache.toml", NO_CACHE)
        .policy("query.toml", THOROUGH)
        .start()
        .await;
    let (penstock, number) = (Arc::new(penstock), Arc::default());
    // What it can do in full: two clients keep its one ranking thread busy.
    let second = Duration::from_secs(1);
    let alone = searches(&penstock, &number, 2, Duration::ZERO, 2 * second).await;
    let capacity = alone.len() as f64 / 2.0;
    println!("capacity {capacity:.0}/s, {:?}", by_mode(&alone));

    let pause = Duration::from_secs_f64(CLIENTS as f64 / (3.0 * capacity));
    let swamped = searches(&penstock, &number, CLIENTS, pause, 6 * second).await;
    let ended = clock::now();
    let modes = by_mode(&swamped);
    let mut times: Vec<Duration> = swamped.iter().map(|(took, _)| *took).collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    let status = penstock.status().await;
    println!(
        "offered {:.0}/s, answered {}, p50 {:?}, p99 {p99:?}, {modes:?}, {}",
        3.0 * capacity,
        swamped.len(),
        times[times.len() / 2],
        status["load"]
    );
    let cheaper: usize = modes.iter().filter(|(mode, _)| *mode != "full").map(|(_, n)| n).sum();
    assert!(cheaper > swamped.len() / 4, "{modes:?}");
    assert!(p99 < 2 * second, "{p99:?}");

    // Its end is over in five seconds: ten in a row in full.
    let mut in_full = 0;
    until("full quality is back", Duration::from_secs(5), async || {
        let reply = penstock.get(&target(number.fetch_add(1, Ordering::Relaxed))).await.expect(200);
        in_full = if mode(&reply) == "full" { in_full + 1 } else { 0 };
        (in_full == 10).then_some(())
    })
    .await;
    println!("in full again after {:?}", clock::now() - ended);
    let by_load = "penstock_ladder_total{mode=\"popular\",reason=\"load\",route=\"search\"}";
    let popular = modes.get("popular").copied().unwrap_or_default();
    assert!(penstock.metric(by_load).await as usize >= popular);
    assert!(penstock.metric("penstock_load_limit").await >= 2.0);
    let refused = "penstock_ladder_total{mode=\"refused\",reason=\"load\",route=\"search\"}";
    assert_eq!(penstock.metric(refused).await as usize, 0);
}

#[tokio::test]
async fn a_rung_can_be_ordered() {
    let penstock = Penstock::over(Shop::demo()).policy("cache.toml", NO_CACHE).start().await;
    let patient = penstock.shop.read_policy("resilience.toml");
    let order = async |load: &str, expected: [&str; 3]| {
        penstock.shop.rename_policy("resilience.toml", &format!("{patient}[load]\n{load}"));
        for (target, mode) in
            ["/search?q=mug&user_id=u", "/recommend/u", "/popular"].into_iter().zip(expected)
        {
            until("the order is in force", Duration::from_secs(10), async || {
                let reply = penstock.get(target).await.expect(200);
                (reply.header("x-penstock-mode") == mode).then_some(())
            })
            .await;
        }
    };
    order("", ["full"; 3]).await;
    order("keyword_only = 0\n", ["keyword_only", "full", "full"]).await;
    let less = "keyword_only = 0\nunpersonalised = 0\n";
    order(less, ["keyword_only", "unpersonalised", "full"]).await;
    let least = format!("{less}stale = 0\npopular = 0\n");
    order(&least, ["popular", "popular", "full"]).await;
    let reply = penstock.get("/search?q=mug").await.expect(200);
    let trace = reply.header("x-trace-id").to_owned();
    let decision = until("the decision is kept", Duration::from_secs(10), async || {
        let kept = penstock.ops(&format!("/decisions/{trace}")).await;
        (kept.status == 200).then(|| kept.json())
    })
    .await;
    assert_eq!(decision[0]["ladder"]["mode"], "popular");
    assert_eq!(decision[0]["ladder"]["why"], "load");
    assert!(decision[0]["degraded"][0].as_str().unwrap().starts_with("load: "), "{decision:#}");
    order("", ["full"; 3]).await;
}

const DEGRADE: &str = "[abuse]\nenabled = false\n\
    [address.search]\nper_minute = 10\nburst = 12\nover_limit = \"degrade\"\n";

/// Twelve searches in full, and then what is popular; with a 200 all of them.
async fn degrades(penstock: &Penstock) {
    let mut modes = BTreeMap::new();
    for number in 0..20 {
        let reply = penstock.get(&format!("/search?q=mug+{number}")).await.expect(200);
        let left = reply.header("x-ratelimit-remaining").to_owned();
        *modes.entry((mode(&reply), left == "0")).or_insert(0) += 1;
        assert!(mode(&reply) == "full" || reply.clone().items().len() == 10);
    }
    // The twelfth is the last one, and says so.
    let expected = [(("full", false), 11), (("full", true), 1), (("popular", true), 8)];
    let expected = expected.map(|((mode, none), count)| ((mode.to_owned(), none), count));
    assert_eq!(modes, BTreeMap::from(expected));
    let hits = "rate_limit_hits_total{endpoint=\"search\",type=\"address\"}";
    assert_eq!(penstock.metric(hits).await as usize, 0);
    let degraded = "penstock_rate_limit_degraded_total{endpoint=\"search\",type=\"address\"}";
    assert_eq!(penstock.metric(degraded).await as usize, 8);
    let by_limit = "penstock_ladder_total{mode=\"popular\",reason=\"limit\",route=\"search\"}";
    assert_eq!(penstock.metric(by_limit).await as usize, 8);
    // Others of its kind are as they were.
    assert_eq!(mode(&penstock.get("/recommend/u").await.expect(200)), "full");
}

#[tokio::test]
async fn who_is_over_a_limit_that_degrades_gets_a_cheaper_answer() {
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", DEGRADE)
        .policy("cache.toml", NO_CACHE)
        .start()
        .await;
    degrades(&penstock).await;
}

#[tokio::test]
async fn who_is_over_a_limit_of_the_fleet_that_degrades_gets_a_cheaper_answer() {
    let redis = RedisServer::start().await;
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", DEGRADE)
        .policy("cache.toml", NO_CACHE)
        .env("PENSTOCK_REDIS_URL", redis.url())
        .start()
        .await;
    until("Redis is connected", Duration::from_secs(10), async || {
        (penstock.status().await["redis"]["connected"] == true).then_some(())
    })
    .await;
    degrades(&penstock).await;
}
