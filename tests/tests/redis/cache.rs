//! The cache over a real Redis: what one instance remembers another finds, what changed is found nowhere, and a
//! Redis that is away, frozen, full or new costs hits and nothing else.

use super::{PATIENCE, link, policy as resilience};
use penstock_config::clock;
use penstock_config::policy::Policy;
use penstock_engine::cache::{
    CacheKind, Cached, Change, Entry, Found, Freshness, Hit, Key, Lives, Log, Pattern, Reason,
    Tags, Tier, Tiered, Unobserved, Versions, What,
};
use penstock_engine::redis::Link;
use penstock_engine::serve::Caches;
use penstock_tests::wait::until_true;
use penstock_tests::{RedisCluster, RedisServer};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Text(String);

impl Cached for Text {
    fn weight(&self) -> usize {
        self.0.len()
    }
}

/// One instance: its link, its memory, its ear.
struct Instance {
    cache: Tiered<Text>,
    log: Arc<Log>,
    link: Arc<Link>,
    policy: Policy,
    ear: tokio::task::JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.ear.abort();
    }
}

impl Instance {
    /// One that hears the others.
    async fn start(url: &str) -> Self {
        let instance = Self::lonely(url);
        instance.until_it_hears(true).await;
        instance
    }

    /// One that may not have reached Redis yet.
    fn lonely(url: &str) -> Self {
        let policy = Policy { resilience: resilience(), ..Policy::default() };
        let link = Arc::new(link(url));
        let clock = clock::system();
        let caches = Caches::new(&policy, Some(link.clone()), clock, Arc::new(Unobserved));
        let (log, cache) = (caches.log.clone(), caches.layer(CacheKind::Results, &policy));
        let (listener, listens) = (log.clone(), policy.resilience.clone());
        let ear = tokio::spawn(async move { listener.follow(|| listens.clone()).await });
        Self { cache, log, link, policy, ear }
    }

    async fn until_it_hears(&self, hears: bool) {
        until_true("it hears the fleet, or not", PATIENCE, async || {
            self.log.status().hears == hears
        })
        .await;
    }

    fn put(&self, name: &str, text: &str) {
        self.put_made_at(name, text, 1);
    }

    /// From this revision of the catalogue.
    fn put_made_at(&self, name: &str, text: &str, revision: u64) {
        let now = clock::system().unix_micros() / 1_000;
        let ttl = Duration::from_secs(100);
        let entry = Entry {
            value: Text(text.into()),
            lives: Lives::new(now, ttl, ttl, (0.0, 0.0), 0.0),
            tags: Tags::of(["mug", "pan"], Some("ann")),
            mark: self.cache.mark(revision),
        };
        self.cache.put(&self.policy, &key(name), entry, true);
    }

    async fn get(&self, name: &str) -> Option<Hit<Text>> {
        self.cache.get(&self.policy, &key(name)).await
    }

    /// Where it is found.
    async fn finds(&self, name: &str) -> Option<Tier> {
        self.get(name).await.map(|hit| hit.tier)
    }

    /// Waits until Redis has what was put.
    async fn until_shared(&self, name: &str) {
        let mut exists = penstock_engine::redis::cmd("EXISTS");
        exists.arg(self.link.key(&key(name).in_redis()));
        until_true("it is in Redis", PATIENCE, async || {
            self.link.call::<u8>(&self.policy.resilience, &exists).await == Ok(1)
        })
        .await;
    }

    async fn until_gone(&self, name: &str) {
        until_true("it is not found any more", PATIENCE, async || self.get(name).await.is_none())
            .await;
    }
}

fn key(name: &str) -> Key {
    Key::new(CacheKind::Results, &Versions::default(), ["search", name])
}

#[tokio::test]
async fn what_one_remembers_another_finds() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server.url()).await, Instance::start(&server.url()).await);
    assert_eq!(one.finds("mug").await, None);
    one.put("mug", "[1]");
    one.until_shared("mug").await;
    assert_eq!(one.finds("mug").await, Some(Tier::L1));
    let found = two.get("mug").await.expect("in Redis");
    assert_eq!((found.tier, found.entry.value.0.as_str()), (Tier::L2, "[1]"));
    assert_eq!(two.finds("mug").await, Some(Tier::L1));
    // Readable, and it goes by itself.
    let name = "test:cache:results:{/search:mug}";
    assert!(server.ask(&["GET", name]).contains("\"value\":\"[1]\""));
    let ttl: i64 = server.ask(&["PTTL", name]).trim().parse().expect("a number");
    assert!((150_000..=200_000).contains(&ttl), "{ttl}");
    // Large values are compressed.
    one.put("large", &"mug ".repeat(10_000));
    one.until_shared("large").await;
    let size: usize =
        server.ask(&["STRLEN", "test:cache:results:{/search:large}"]).trim().parse().unwrap();
    assert!(size < 1_000, "{size}");
    assert_eq!(two.get("large").await.expect("in Redis").entry.value.0.len(), 40_000);
}

#[tokio::test]
async fn many_values_are_one_round_trip() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server.url()).await, Instance::start(&server.url()).await);
    for name in ["a", "c", "e"] {
        one.put(name, name);
        one.until_shared(name).await;
    }
    assert_eq!(two.finds("a").await, Some(Tier::L2));
    let calls = || two.link.status().calls.iter().map(|(_, count)| count).sum::<u64>();
    let before = calls();
    let keys = ["a", "b", "c", "d", "e"].map(key);
    let found = two.cache.get_many(&two.policy, &keys).await;
    let tiers: Vec<_> = found.iter().map(|hit| hit.as_ref().map(|hit| hit.tier)).collect();
    assert_eq!(tiers, [Some(Tier::L1), None, Some(Tier::L2), None, Some(Tier::L2)]);
    assert_eq!(found[4].as_ref().map(|hit| hit.entry.value.0.as_str()), Some("e"));
    assert_eq!(calls() - before, 1);
}

#[tokio::test]
async fn what_changed_is_found_nowhere() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server.url()).await, Instance::start(&server.url()).await);
    let pattern = What::Pattern(Pattern::parse("search:mug*").unwrap());
    let changes = [
        Change::products(vec!["pan".into()], Reason::ProductUpdate, 0),
        Change::users(vec!["ann".into()]),
        Change { what: pattern, ..Change::all(None, Reason::Operator) },
        Change::all(Some(CacheKind::Results), Reason::Operator),
        Change::all(None, Reason::Operator),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mug = &format!("mug {n}");
        one.put(mug, "[1]");
        one.until_shared(mug).await;
        assert!(two.finds(mug).await.is_some(), "{change:?}");
        let began = clock::now();
        two.log.tell(change.clone());
        // At once where it was told, and in the other within a second.
        assert_eq!(two.finds(mug).await, None, "{change:?}");
        one.until_gone(mug).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{change:?}: {:?}", began.elapsed());
        assert_eq!(one.cache.get_shared(&one.policy, &key(mug)).await.map(|hit| hit.tier), None);
        // An instance that starts afterwards knows it, too.
        let three = Instance::start(&server.url()).await;
        assert_eq!(three.finds(mug).await, None, "{change:?}");
    }
    // Changes of something else change nothing.
    one.put("mug", "[1]");
    one.until_shared("mug").await;
    one.log.tell_now(&one.policy.resilience, Change::users(vec!["bob".into()])).await.unwrap();
    assert!(one.finds("mug").await.is_some() && two.finds("mug").await.is_some());
}

#[tokio::test]
async fn an_instance_with_the_old_catalogue_leaves_nothing_behind() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server.url()).await, Instance::start(&server.url()).await);
    let change = Change::products(vec!["pan".into()], Reason::ProductUpdate, 8);
    two.log.tell_now(&two.policy.resilience, change).await.unwrap();
    until_true("both know", PATIENCE, async || {
        one.log.status().epoch > 0 && one.log.status().epoch == two.log.status().epoch
    })
    .await;
    // It has heard of the change and has not loaded it.
    one.put_made_at("mug", "[old]", 7);
    assert_eq!(one.finds("mug").await, None);
    assert_eq!(two.finds("mug").await, None);
    one.put_made_at("mug", "[new]", 8);
    one.until_shared("mug").await;
    assert_eq!(two.finds("mug").await, Some(Tier::L2));
}

#[tokio::test]
async fn one_instance_computes_for_the_fleet() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server.url()).await, Instance::start(&server.url()).await);
    let lease = Duration::from_secs(2);
    let mug = key("mug");
    let ask = async |who: &Instance| who.cache.get_or_lease(&who.policy, &mug, lease).await;
    assert!(matches!(ask(&one).await, Found::Mine));
    assert!(matches!(ask(&two).await, Found::Elsewhere));
    let waits = two.cache.get_awaited(&two.policy, &mug, lease, |_| true);
    let computes = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        one.put("mug", "[1]");
    };
    let (found, ()) = tokio::join!(waits, computes);
    assert_eq!(found.expect("one computed it").entry.value.0, "[1]");
    assert!(matches!(ask(&one).await, Found::Hit(_)));
    // One that is there, but not good enough, can be leased, too.
    assert!(one.cache.lease(&one.policy, &mug, lease).await);
    assert!(!two.cache.lease(&two.policy, &mug, lease).await);
    // A lease that nobody makes use of ends.
    let key = key("pan");
    let short = Duration::from_millis(50);
    assert!(matches!(one.cache.get_or_lease(&one.policy, &key, short).await, Found::Mine));
    until_true("the lease ends", PATIENCE, async || {
        matches!(two.cache.get_or_lease(&two.policy, &key, short).await, Found::Mine)
    })
    .await;
}

#[tokio::test]
async fn who_lost_touch_forgets_and_comes_back_knowing() {
    let mut server = RedisServer::with_aof().await;
    let (one, two) = (Instance::start(&server.url()).await, Instance::start(&server.url()).await);
    for name in ["mug", "pan"] {
        one.put(name, "[1]");
        one.until_shared(name).await;
        assert!(two.finds(name).await.is_some());
    }
    server.kill();
    one.until_it_hears(false).await;
    two.until_it_hears(false).await;
    // What was in memory is forgotten; what comes from now on is remembered, here.
    assert_eq!(two.finds("mug").await, None);
    two.put("cup", "[2]");
    assert_eq!(two.finds("cup").await, Some(Tier::L1));
    // What changes meanwhile is told when Redis is there again.
    two.log.tell(Change::all(Some(CacheKind::Results), Reason::Operator));
    assert_eq!(two.finds("cup").await, None);
    assert_eq!(two.log.status().pending, 1);
    server.restart().await;
    one.until_it_hears(true).await;
    two.until_it_hears(true).await;
    until_true("it is told", PATIENCE, async || two.log.status().pending == 0).await;
    until_true("it is heard", PATIENCE, async || one.log.status().epoch == two.log.status().epoch)
        .await;
    // Redis kept the values, and they are from before the change.
    assert_eq!(server.ask(&["EXISTS", "test:cache:results:{/search:mug}"]).trim(), "1");
    assert_eq!((one.finds("mug").await, two.finds("mug").await), (None, None));
    one.put("mug", "[3]");
    // The old value is there until it is written over.
    until_true("it is shared", PATIENCE, async || two.finds("mug").await == Some(Tier::L2)).await;
}

#[tokio::test]
async fn who_is_behind_believes_no_message_before_it_has_read_the_log() {
    let server = RedisServer::start().await;
    let url = server.url();
    server.ask(&["ACL", "SETUSER", "two", "on", ">secret", "~*", "&*", "+@all"]);
    let (one, two) = (
        Instance::start(&url).await,
        Instance::start(&url.replace("redis://", "redis://two:secret@")).await,
    );
    two.put("mug", "[1]");
    two.until_shared("mug").await;
    // It hears nothing and may not read the log.
    server.ask(&["ACL", "SETUSER", "two", "-lrange", "resetchannels"]);
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    two.until_it_hears(false).await;
    one.until_it_hears(true).await;
    two.put("mug", "[1]");
    assert_eq!(two.finds("mug").await, Some(Tier::L1));
    let pattern = What::Pattern(Pattern::parse("search:mug*").unwrap());
    let change = Change { what: pattern, ..Change::all(None, Reason::Operator) };
    one.log.tell_now(&one.policy.resilience, change).await.unwrap();
    // It hears again, and there is much to hear; what was before is still not to be had.
    server.ask(&["ACL", "SETUSER", "two", "&*"]);
    for n in 0..200 {
        let user = vec![format!("user {n}")];
        one.log.tell_now(&one.policy.resilience, Change::users(user)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!two.log.status().hears);
    server.ask(&["ACL", "SETUSER", "two", "+lrange"]);
    // However many messages there are, it is tried again.
    let busy = async {
        for n in 0..2_000 {
            let user = vec![format!("user {n}")];
            one.log.tell_now(&one.policy.resilience, Change::users(user)).await.unwrap();
            if two.log.status().hears {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    busy.await;
    assert!(two.log.status().hears, "it never came to read the log");
    two.until_gone("mug").await;
}

#[tokio::test]
async fn a_redis_that_lost_the_log_is_not_believed() {
    let mut server = RedisServer::start().await;
    let one = Instance::start(&server.url()).await;
    one.log.tell_now(&one.policy.resilience, Change::users(vec!["bob".into()])).await.unwrap();
    until_true("it is heard", PATIENCE, async || one.log.status().epoch > 0).await;
    let before = one.log.status().epoch;
    server.kill();
    one.until_it_hears(false).await;
    server.restart().await;
    one.until_it_hears(true).await;
    until_true("everything is told to be old", PATIENCE, async || one.log.status().epoch > before)
        .await;
    one.put("mug", "[1]");
    one.until_shared("mug").await;
    let two = Instance::start(&server.url()).await;
    assert_eq!(two.finds("mug").await, Some(Tier::L2));
}

#[tokio::test]
async fn a_frozen_redis_holds_nobody_up() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server.url()).await;
    one.put("mug", "[1]");
    one.until_shared("mug").await;
    server.freeze();
    let mut waits: Vec<Duration> = Vec::new();
    for n in 0..40 {
        let began = clock::now();
        let found = one.get(&format!("cold {n}")).await;
        waits.push(began.elapsed());
        assert!(found.is_none());
        one.put(&format!("cold {n}"), "[2]");
    }
    waits.sort();
    assert!(waits[20] < Duration::from_millis(40), "{waits:?}");
    assert!(waits[39] < Duration::from_secs(1), "{waits:?}");
    assert_eq!(one.finds("cold 7").await, Some(Tier::L1));
    server.thaw();
    until_true("Redis is used again", PATIENCE, async || {
        one.put("again", "[3]");
        one.cache.get_shared(&one.policy, &key("again")).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_full_redis_costs_hits_and_nothing_else() {
    let server =
        RedisServer::start_with(None, &["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"])
            .await;
    let one = Instance::start(&server.url()).await;
    let large: String = (0..8_000).map(|n: u32| char::from(33 + (n * n % 89) as u8)).collect();
    for n in 0..600 {
        one.put(&n.to_string(), &large);
        assert_eq!(one.finds(&n.to_string()).await, Some(Tier::L1));
        tokio::task::yield_now().await;
    }
    assert!(one.log.status().hears);
    // The log of changes is in the same Redis: what cannot be told stays pending and holds here at once.
    one.log.tell(Change::all(None, Reason::Operator));
    assert_eq!(one.finds("7").await, None);
}

#[tokio::test]
async fn a_damaged_value_is_no_value() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server.url()).await;
    for damage in ["", "null", "{\"made\":", "[]", "\u{28}\u{b5}"] {
        server.ask(&["SET", "test:cache:results:{/search:mug}", damage]);
        assert_eq!(one.finds("mug").await, None, "{damage:?}");
        let found = one.cache.get_or_lease(&one.policy, &key("mug"), Duration::from_secs(1)).await;
        assert!(matches!(found, Found::Mine), "{damage:?}");
    }
    server.ask(&["DEL", "test:cache:results:{/search:mug}"]);
    server.ask(&["HSET", "test:cache:results:{/search:mug}", "a", "b"]);
    assert_eq!(one.finds("mug").await, None);
    one.put("mug", "[1]");
    until_true("it is written anew", PATIENCE, async || {
        one.cache.get_shared(&one.policy, &key("mug")).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_cluster_keeps_values_and_changes_and_outlives_a_node() {
    let mut cluster = RedisCluster::with_replicas(3).await;
    let (one, two) = (Instance::start(&cluster.url()).await, Instance::start(&cluster.url()).await);
    let names: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    for name in &names {
        one.put(name, name);
        one.until_shared(name).await;
    }
    // All over the cluster, in one call.
    let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    let found = two.cache.get_many(&two.policy, &keys).await;
    let texts: Vec<_> = found.iter().flatten().map(|hit| hit.entry.value.0.clone()).collect();
    assert_eq!(texts, names);
    two.log.tell(Change::all(None, Reason::Operator));
    one.until_gone("3").await;
    for name in &names {
        one.put(name, name);
        one.until_shared(name).await;
    }
    cluster.masters[0].kill();
    // Nothing is found that should not be, and nobody waits for long.
    two.log.tell(Change::products(vec!["mug".into()], Reason::ProductUpdate, 0));
    for name in &names {
        let began = clock::now();
        assert_eq!(two.finds(name).await, None);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    cluster.wait_failover(0).await;
    until_true("the other hears of it", PATIENCE * 2, async || {
        two.log.status().pending == 0 && one.log.status().epoch == two.log.status().epoch
    })
    .await;
    for name in &names {
        assert_eq!(one.finds(name).await, None, "{name}");
    }
    one.put("again", "[1]");
    until_true("values are shared again", PATIENCE, async || {
        one.put("again", "[1]");
        two.finds("again").await.is_some()
    })
    .await;
}

#[tokio::test]
async fn what_nobody_may_use_yet_is_as_good_as_absent() {
    let mut server = RedisServer::prepare(None, &[]);
    let one = Instance::lonely(&server.url());
    one.put("mug", "[1]");
    let hit = one.get("mug").await.expect("in memory");
    assert_eq!((hit.tier, hit.freshness), (Tier::L1, Freshness::Fresh));
    assert_eq!(one.log.status().epoch, 0);
    server.restart().await;
    one.until_it_hears(true).await;
    one.put("pan", "[1]");
    one.until_shared("pan").await;
}
