//! What is remembered, as a client and an operator see it.

use penstock_config::clock;
use penstock_tests::traffic::Traffic;
use penstock_tests::wait::{until, until_true};
use penstock_tests::{Penstock, RedisCluster, RedisServer, Reply, Shop};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Quick to try again, and with deadlines that nothing misses.
const RESILIENCE: &str = "[deadlines]\nretrieve = \"10s\"\nstore = \"10s\"\nrequest = \"30s\"\n\
    [breaker]\nopen = \"1s\"\nmax_open = \"2s\"\n[redis]\ntimeout = \"50ms\"\n";
/// Nothing is made before it is asked for.
const COLD: &str = "[warming]\nenabled = false\n";

async fn cold() -> Penstock {
    Penstock::over(Shop::demo()).policy("cache.toml", COLD).start().await
}

/// `X-Cache` of an answer.
async fn cache(penstock: &Penstock, target: &str) -> String {
    penstock.get(target).await.expect(200).header("x-cache").to_owned()
}

/// Two instances of one shop over one Redis.
async fn two(redis: &str, cache_toml: &str) -> [Penstock; 2] {
    let shop = Shop::demo();
    let mut both = [shop.copy(), shop].map(|shop| {
        Penstock::over(shop)
            .env("PENSTOCK_REDIS_URL", redis)
            .policy("cache.toml", cache_toml)
            .policy("resilience.toml", RESILIENCE)
            .spawn()
    });
    for penstock in &mut both {
        penstock.wait_ready().await;
    }
    for penstock in &both {
        hears(penstock, true).await;
    }
    both
}

async fn hears(penstock: &Penstock, expected: bool) {
    until_true("changes are heard, or not", PATIENCE, async || {
        penstock.status().await["caches"]["changes"]["hears"] == expected
    })
    .await;
}

async fn command(penstock: &Penstock, command: &str) -> Reply {
    penstock.admin("POST", command, None).await
}

/// Searches that were computed, when there are at least so many: one is counted when its answer is on its way.
async fn computed(penstock: &Penstock, least: f64) -> f64 {
    let series = r#"penstock_stage_duration_seconds_count{stage="engine_retrieve"}"#;
    until("they are counted", PATIENCE, async || {
        let count = penstock.metric(series).await;
        (count >= least).then_some(count)
    })
    .await
}

#[tokio::test]
async fn a_search_is_remembered_and_says_so() {
    let penstock = cold().await;
    let first = penstock.get("/search?q=Desk+Lamp&k=5").await.expect(200);
    assert_eq!(first.header("x-cache"), "miss");
    for same in ["/search?q=desk+lamp&k=5", "/search?k=5&q=+desk++lamp&user_id=u&utm=x"] {
        let again = penstock.get(same).await.expect(200);
        assert_eq!(again.header("x-cache"), "hit-l1", "{same}");
        assert_eq!(again.body, first.body, "{same}");
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_eq!(again.header("x-penstock-mode"), "full");
    }
    for other in ["/search?q=desk+lamp&k=6", "/search?q=desk+lamp&k=5&fields=name"] {
        assert_eq!(cache(&penstock, other).await, "miss", "{other}");
    }
    // The client has it already.
    let tag = first.header("etag").to_owned();
    let ask = |method: &str, tag: &str| {
        penstock.request(method, "/search?q=desk+lamp&k=5").header("if-none-match", tag)
    };
    let unchanged = penstock.send(ask("GET", &tag)).await.expect(304);
    assert_eq!((unchanged.header("etag"), unchanged.body.len()), (tag.as_str(), 0));
    penstock.send(ask("HEAD", &tag)).await.expect(304);
    penstock.send(ask("GET", "\"another\"")).await.expect(200);
    // An answer without a product is remembered, for a shorter time.
    assert_eq!(cache(&penstock, "/search?q=lamp&brand=nobody").await, "miss");
    assert_eq!(cache(&penstock, "/search?q=lamp&brand=nobody").await, "hit-l1");
    assert!(
        penstock.metric(r#"cache_hits_total{cache_layer="l1",cache_type="results"}"#).await >= 4.0
    );
    let rate = penstock.metric(r#"cache_hit_rate{cache_layer="l1",cache_type="results"}"#).await;
    assert!(rate > 0.3 && rate < 1.0, "{rate}");
    // Errors are not.
    penstock.get("/search?q=").await.expect(400);
    penstock.get("/similar/nothing").await.expect(404);
}

#[tokio::test]
async fn recommendations_are_remembered_until_their_user_acts() {
    let penstock = cold().await;
    let popular = penstock.items("/popular?k=1").await;
    let product = &popular[0].product_id;
    assert_eq!(cache(&penstock, "/recommend/ann").await, "miss");
    // Nobody knows either of them.
    assert_eq!(cache(&penstock, "/recommend/bob").await, "hit-l1");
    let event = json!({"user_id": "ann", "product_id": product, "event_type": "purchase"});
    penstock.post("/events", &event).await.expect(202);
    let after = penstock.get("/recommend/ann").await.expect(200);
    assert_eq!(after.header("x-cache"), "miss");
    assert!(after.items().iter().all(|item| item.product_id != *product), "bought already");
    assert_eq!(cache(&penstock, "/recommend/ann").await, "hit-l1");
    assert_eq!(cache(&penstock, "/recommend/bob").await, "hit-l1");
    let event = json!({"user_id": "ann", "product_id": product, "event_type": "view"});
    penstock.post("/events", &event).await.expect(202);
    assert_eq!(cache(&penstock, "/recommend/ann").await, "miss");
}

#[tokio::test]
async fn nobody_is_given_the_list_of_somebody_with_an_odd_name() {
    let penstock = cold().await;
    let product = penstock.items("/popular?k=1").await[0].product_id.clone();
    let anybody = penstock.get("/recommend/never-seen").await.expect(200).body;
    for (id, path) in [("-", "-"), ("%2D", "%252D"), ("", "%20"), ("*", "*"), ("a:b", "a:b")] {
        if !id.is_empty() {
            let event = json!({"user_id": id, "product_id": product, "event_type": "purchase"});
            penstock.post("/events", &event).await.expect(202);
        }
        let own = penstock.get(&format!("/recommend/{path}")).await;
        let other = penstock.get(&format!("/recommend/other-than-{}", id.len())).await.expect(200);
        assert_eq!(other.body, anybody, "{id:?}");
        assert!(id.is_empty() || own.body != anybody, "{id:?}");
    }
}

#[tokio::test]
async fn an_event_is_known_where_it_was_stored_whatever_others_remember() {
    let redis = RedisServer::start().await;
    // Copies of one folder: what is stored in one is not in the other.
    let [one, two] = two(&redis.url(), COLD).await;
    let product = one.items("/popular?k=1").await[0].product_id.clone();
    let event = json!({"user_id": "ann", "product_id": product, "event_type": "purchase"});
    one.post("/events", &event).await.expect(202);
    let hears_of_it = r#"cache_invalidations_total{cache_type="features",reason="user_events"}"#;
    until_true("the other hears of it", PATIENCE, async || two.metric(hears_of_it).await >= 1.0)
        .await;
    two.get("/recommend/ann").await.expect(200);
    let items = one.get("/recommend/ann").await.expect(200).items();
    assert!(items.iter().all(|item| item.product_id != product), "bought already");

    // Another process on the same folder: it is found out whose the events are.
    let beside = Penstock::over(one.shop.clone()).policy("cache.toml", COLD).start().await;
    let warm = "/recommend/bob";
    one.get(warm).await.expect(200);
    assert_eq!(cache(&one, warm).await, "hit-l1");
    let other = json!({"user_id": "ann", "product_id": "else", "event_type": "view"});
    beside.post("/events", &other).await.expect(202);
    let import = r#"cache_invalidations_total{cache_type="features",reason="import"}"#;
    until_true("it is found out", PATIENCE, async || one.metric(import).await >= 1.0).await;
    assert_eq!(cache(&one, "/recommend/ann").await, "miss");
    assert_eq!(cache(&one, warm).await, "hit-l1", "nothing of it changed");
}

#[tokio::test]
async fn who_is_over_a_limit_spoils_nothing_for_others() {
    let limits = "[address.search]\nper_minute = 2\nburst = 4\nover_limit = \"degrade\"\n\
        [key.search]\nper_minute = 2\nburst = 4\nover_limit = \"degrade\"\n[abuse]\nenabled = false\n";
    let penstock = Penstock::over(Shop::demo())
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .policy("cache.toml", COLD)
        .policy("limits.toml", limits)
        .start()
        .await;
    let made =
        penstock.shop.control(&["keys", "create", "--json", "--name", "a", "--bypass-cache"]).ok();
    let made: serde_json::Value = serde_json::from_str(&made.stdout).expect("JSON");
    let key = made["key"].as_str().expect("a key").to_owned();
    let ask = async |n: usize| {
        let request = penstock
            .request("GET", &format!("/search?q=lamp+{n}"))
            .bearer_auth(&key)
            .header("cache-control", "no-cache");
        penstock.send(request).await
    };
    until_true("the key is in force", PATIENCE, async || ask(0).await.status == 200).await;
    for n in 1..6 {
        ask(n).await.expect(200);
    }
    let other = ask(8).await.expect(200);
    assert_eq!((other.header("x-cache"), other.header("x-penstock-mode")), ("bypass", "popular"));
    let polite =
        penstock.request("GET", "/search?q=lamp+8").header("x-forwarded-for", "203.0.113.7");
    let polite = penstock.send(polite).await.expect(200);
    assert_eq!((polite.header("x-cache"), polite.header("x-penstock-mode")), ("miss", "full"));
    // From now on it is remembered for both.
    assert_eq!(ask(8).await.header("x-cache"), "hit-l1");
}

#[tokio::test]
async fn two_proxies_share_answers_and_changes() {
    let redis = RedisServer::start().await;
    let [one, two] = two(&redis.url(), COLD).await;
    let target = "/search?q=desk+lamp";
    let first = one.get(target).await.expect(200);
    until_true("Redis has it", PATIENCE, async || {
        !redis.ask(&["KEYS", "*:cache:results:*"]).trim().is_empty()
    })
    .await;
    assert_eq!(cache(&two, target).await, "hit-l2");
    let second = two.get(target).await.expect(200);
    assert_eq!((second.header("x-cache"), &second.body), ("hit-l1", &first.body));

    // The weights in force are there for whoever reads Redis.
    until_true("the weights", PATIENCE, async || {
        let keys = redis.ask(&["KEYS", "*/ranking:config:global}"]);
        keys.lines().next().is_some_and(|key| redis.ask(&["GET", key]).contains("\"search\":0.4"))
    })
    .await;

    // What one is told, the other does within a second.
    let began = clock::now();
    let product = first.items()[0].product_id.clone();
    command(&one, &format!("cache/invalidate/product/{product}")).await.expect(200);
    assert_eq!(cache(&one, target).await, "miss");
    until_true("the other hears of it", PATIENCE, async || cache(&two, target).await != "hit-l1")
        .await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // A user's acts, too.
    for penstock in [&one, &two] {
        penstock.get("/recommend/ann").await.expect(200);
    }
    let event = json!({"user_id": "ann", "product_id": product, "event_type": "view"});
    one.post("/events", &event).await.expect(202);
    let began = clock::now();
    until_true("the other hears of it", PATIENCE, async || {
        two.metric(r#"cache_invalidations_total{cache_type="features",reason="user_events"}"#).await
            >= 1.0
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_changed_while_it_was_down_is_not_served_as_it_was() {
    let redis = RedisServer::start().await;
    let products = "id,name,description,category,brand,price,created_at\n\
        a,Oak desk,,Desks,,10.00,\nb,Pine desk,,Desks,,20.00,\n";
    let shop = Shop::of(products, "user_id,product_id,event_type,timestamp\n");
    let mut penstock = Penstock::over(shop)
        .env("PENSTOCK_REDIS_URL", redis.url())
        .policy("cache.toml", COLD)
        .policy("resilience.toml", RESILIENCE)
        .start()
        .await;
    hears(&penstock, true).await;
    let target = "/search?q=desk&fields=price,description";
    let before = penstock.get(target).await.expect(200);
    until_true("Redis has it", PATIENCE, async || {
        !redis.ask(&["KEYS", "*:cache:results:*"]).trim().is_empty()
    })
    .await;
    penstock.signal("TERM");
    assert!(penstock.exit().await.success());
    // Once without a change: it is found in Redis.
    let mut penstock = penstock.setup().start().await;
    hears(&penstock, true).await;
    assert_eq!(cache(&penstock, target).await, "hit-l2");
    penstock.signal("TERM");
    assert!(penstock.exit().await.success());
    let changed = products.replace("20.00", "21.00");
    let changed = penstock.shop.write("incoming/new.csv", changed);
    penstock.shop.import(&changed, None);
    let penstock = penstock.setup().start().await;
    hears(&penstock, true).await;
    let after = penstock.get(target).await.expect(200);
    assert_eq!(after.header("x-cache"), "miss");
    assert_ne!(after.body, before.body);
    assert!(String::from_utf8_lossy(&after.body).contains("21"), "{}", after.describe());
}

#[tokio::test]
async fn a_thousand_ask_and_one_computes() {
    let penstock = Arc::new(cold().await);
    penstock.get("/search?q=warm+up").await.expect(200);
    let before = computed(&penstock, 1.0).await;
    let mut clients = tokio::task::JoinSet::new();
    let gate = Arc::new(tokio::sync::Barrier::new(1_000));
    for _ in 0..1_000 {
        let (penstock, gate) = (penstock.clone(), gate.clone());
        clients.spawn(async move {
            let mut connection = penstock.raw().await;
            gate.wait().await;
            let request = "GET /search?q=one+cold+key HTTP/1.1\r\nHost: s\r\n\r\n";
            connection.send(request).await.reply().await.expect("an answer")
        });
    }
    let mut bodies = std::collections::BTreeSet::new();
    while let Some(reply) = clients.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200);
        bodies.insert(reply.body);
    }
    assert_eq!((bodies.len(), computed(&penstock, before + 1.0).await), (1, before + 1.0));
}

#[tokio::test]
async fn weights_change_the_order_without_a_retriever() {
    let penstock = cold().await;
    let target = "/search?q=lamp&k=20";
    let first = penstock.get(target).await.expect(200);
    let version = first.header("x-policy-version");
    let retrieved = computed(&penstock, 1.0).await;
    let fresh = "[weights]\nsearch = 0\ncf = 0\npopularity = 0\nfreshness = 1\n";
    penstock.shop.rename_policy("ranking.toml", fresh);
    let second = until("the new weights", PATIENCE, async || {
        let reply = penstock.get(target).await.expect(200);
        (reply.header("x-policy-version") != version).then_some(reply)
    })
    .await;
    assert_ne!(second.body, first.body);
    let hits = r#"cache_hits_total{cache_layer="l1",cache_type="candidates"}"#;
    assert!(penstock.metric(hits).await >= 1.0);
    assert_eq!(computed(&penstock, retrieved).await, retrieved, "it was retrieved again");
    // The record says where the candidates were.
    let trace = second.header("x-trace-id");
    let record = until("the record", PATIENCE, async || {
        let reply = penstock.ops(&format!("/decisions/{trace}")).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    let record = record.as_array().map_or(&record, |records| &records[0]);
    assert_eq!(
        (&record["cache"]["outcome"], &record["candidates"]),
        (&json!("miss"), &json!("l1"))
    );
    // With the old weights the old answer is there again.
    penstock.shop.rename_policy("ranking.toml", "");
    until("the old weights", PATIENCE, async || {
        let reply = penstock.get(target).await.expect(200);
        (reply.body == first.body).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_changed_product_is_found_nowhere() {
    let products = "id,name,description,category,brand,price,created_at\n\
        a,Oak desk,,Desks,,10.00,\nb,Pine desk,,Desks,,20.00,\nc,Mug,,Mugs,,5.00,\n";
    let shop = Shop::of(products, "user_id,product_id,event_type,timestamp\n");
    let penstock = Penstock::over(shop).policy("cache.toml", COLD).start().await;
    let prices = async |target: &str| {
        let items = penstock.get(target).await.expect(200).json();
        let items = items.as_array().unwrap().iter();
        items.map(|item| item["price"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (desks, mugs) = ("/search?q=desk&fields=price", "/search?q=mug&fields=price");
    let mut before = prices(desks).await;
    before.sort_by(f64::total_cmp);
    assert_eq!((before, prices(mugs).await), (vec![10.0, 20.0], vec![5.0]));
    assert_eq!(
        (cache(&penstock, desks).await, cache(&penstock, mugs).await),
        ("hit-l1".into(), "hit-l1".into())
    );

    // A price is changed by an import beside the running proxy.
    let changed = penstock.shop.write(
        "incoming/new.csv",
        "id,name,description,category,brand,price,created_at\na,Oak desk,,Desks,,11.00,\n",
    );
    penstock.shop.import(&changed, None);
    let began = clock::now();
    until_true("the new price", PATIENCE, async || prices(desks).await.contains(&11.0)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(cache(&penstock, mugs).await, "hit-l1", "nothing of it changed");

    // A product is removed.
    let store = rusqlite::Connection::open(penstock.shop.store()).unwrap();
    store
        .execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM products WHERE id = 'b';
             UPDATE meta SET value = value + 1 WHERE name = 'catalog_revision'; COMMIT;",
        )
        .unwrap();
    let began = clock::now();
    until_true("it is gone", PATIENCE, async || prices(desks).await == [11.0]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    penstock.get("/products/b").await.expect(404);
}

#[tokio::test]
async fn commands_forget_what_they_name() {
    let penstock = cold().await;
    let targets = ["/search?q=lamp", "/popular?k=5", "/recommend/ann", "/similar/none"];
    let product = penstock.items("/popular?k=5").await[0].product_id.clone();
    let similar = format!("/similar/{product}");
    let targets = [targets[0], targets[1], targets[2], &similar];
    let check = async |said: &str, gone: [bool; 4]| {
        for target in targets {
            penstock.get(target).await.expect(200);
            assert_eq!(cache(&penstock, target).await, "hit-l1", "{target}");
        }
        command(&penstock, said).await.expect(200);
        for (target, gone) in targets.into_iter().zip(gone) {
            let expected = if gone { "miss" } else { "hit-l1" };
            assert_eq!(cache(&penstock, target).await, expected, "{said}: {target}");
        }
    };
    check("cache/invalidate?pattern=search:*", [true, false, false, false]).await;
    check("cache/invalidate?pattern=popular:global:5", [false, true, false, false]).await;
    check("cache/invalidate/all?cache=results", [true, false, true, true]).await;
    check("cache/invalidate/all", [true, true, true, true]).await;
    check("cache/invalidate/user/nobody", [false, false, false, false]).await;
    check("ranking/refresh", [false, false, false, false]).await;
    // Of what is popular, and of what is like it.
    let about = format!("cache/invalidate/product/{product}");
    command(&penstock, &about).await.expect(200);
    assert_eq!(cache(&penstock, targets[1]).await, "miss");
    assert_eq!(cache(&penstock, targets[3]).await, "miss");

    for (method, said, status) in [
        ("POST", "cache/invalidate", 400),
        ("POST", "cache/invalidate?pattern=", 400),
        ("POST", "cache/invalidate?pattern=a&cache=nonsense", 400),
        ("POST", "cache/invalidate/product/", 400),
        ("POST", "cache/invalidate/nonsense", 400),
        ("POST", "cache/invalidate/all?cach=results", 400),
        ("POST", "cache/invalidate?pattern=search:running%20shoes*", 400),
        ("POST", "cache/invalidate/product/a?cache=results", 400),
        ("GET", "cache/invalidate/all", 405),
        ("GET", "cache/warm", 405),
        ("POST", "cache/status", 405),
        ("POST", "cache/nonsense", 404),
        ("POST", "ranking/nonsense", 404),
        ("GET", "cache/status", 200),
        ("GET", "cache/queries", 200),
        ("POST", "cache/warm", 202),
    ] {
        penstock.admin(method, said, None).await.expect(status);
    }
    let bare = penstock.ops_request("POST", "/admin/cache/invalidate/all");
    penstock.send(bare).await.expect(401);
    let operator = r#"cache_invalidations_total{cache_type="results",reason="operator"}"#;
    assert!(penstock.metric(operator).await >= 4.0);
}

#[tokio::test]
async fn only_keys_that_may_get_answers_anew() {
    let penstock = cold().await;
    let key = |args: &[&str]| {
        let made = penstock.shop.control(&[&["keys", "create", "--json"], args].concat()).ok();
        let made: serde_json::Value = serde_json::from_str(&made.stdout).expect("JSON");
        made["key"].as_str().expect("a key").to_owned()
    };
    let (may, may_not) = (key(&["--name", "a", "--bypass-cache"]), key(&["--name", "b"]));
    let ask = async |key: Option<&str>, line: Option<&str>| {
        let mut request = penstock.request("GET", "/search?q=lamp");
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        if let Some(line) = line {
            request = request.header("cache-control", line);
        }
        let reply = penstock.send(request).await;
        (reply.status == 200).then(|| reply.header("x-cache").to_owned())
    };
    until_true("the keys are in force", PATIENCE, async || {
        ask(Some(&may), None).await.is_some() && ask(Some(&may_not), None).await.is_some()
    })
    .await;
    let hit = Some("hit-l1".to_owned());
    assert_eq!(ask(None, Some("no-cache")).await, hit);
    assert_eq!(ask(Some(&may_not), Some("no-cache")).await, hit);
    assert_eq!(ask(Some(&may), None).await, hit);
    assert_eq!(ask(Some(&may), Some("no-cache")).await, Some("bypass".to_owned()));
    assert_eq!(ask(Some(&may), Some("max-age=0")).await, Some("bypass".to_owned()));
}

#[tokio::test]
async fn redis_dies_freezes_fills_and_nobody_notices() {
    let mut redis = RedisServer::start().await;
    let [one, two] = two(&redis.url(), COLD).await;
    let traffic = [
        Traffic::keep_alive(&one.url("/search?q=lamp&k=3"), 2),
        Traffic::keep_alive(&two.url("/recommend/ann"), 2),
        Traffic::keep_alive(&two.url("/search?q=desk&fields=name,description"), 2),
    ];
    let goes_on = async || {
        for traffic in &traffic {
            traffic.wait_for(60).await;
        }
    };
    goes_on().await;
    redis.freeze();
    goes_on().await;
    let event = json!({"user_id": "ann", "product_id": "x", "event_type": "view"});
    one.post("/events", &event).await.expect(202);
    redis.thaw();
    goes_on().await;
    // Slow: now within the deadline, now beyond it.
    for pause in ["30", "200", "40", "300", "45"] {
        redis.ask(&["CLIENT", "PAUSE", pause, "ALL"]);
        goes_on().await;
    }
    redis.kill();
    goes_on().await;
    hears(&one, false).await;
    command(&one, "cache/invalidate/all").await.expect(202);
    redis.restart().await;
    hears(&one, true).await;
    hears(&two, true).await;
    goes_on().await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1mb"]);
    goes_on().await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until_true("everything is told", PATIENCE, async || {
        one.status().await["caches"]["changes"]["pending"] == 0
    })
    .await;
    for traffic in traffic {
        let samples = traffic.stop().await;
        let mut waits: Vec<Duration> =
            samples.iter().map(|sample| sample.done - sample.sent).collect();
        waits.sort();
        // Nobody waited for Redis for longer than its deadline and what a busy machine adds.
        assert!(waits[waits.len() * 99 / 100] < Duration::from_secs(1), "{waits:?}");
    }
}

#[tokio::test]
async fn a_cluster_loses_a_node_under_load_and_nobody_notices() {
    let mut cluster = RedisCluster::with_replicas(3).await;
    let [one, two] = two(&cluster.url(), COLD).await;
    let traffic = [
        Traffic::keep_alive(&one.url("/search?q=lamp&k=3"), 2),
        Traffic::keep_alive(&two.url("/search?q=desk&fields=name,description"), 2),
    ];
    let goes_on = async || {
        for traffic in &traffic {
            traffic.wait_for(60).await;
        }
    };
    goes_on().await;
    cluster.masters[0].kill();
    goes_on().await;
    command(&one, "cache/invalidate/all").await;
    goes_on().await;
    cluster.wait_failover(0).await;
    for penstock in [&one, &two] {
        hears(penstock, true).await;
    }
    until_true("the other hears of it", PATIENCE, async || {
        let (one, two) = (one.status().await, two.status().await);
        let changes = |status: &serde_json::Value| status["caches"]["changes"].clone();
        changes(&one)["pending"] == 0 && changes(&one)["epoch"] == changes(&two)["epoch"]
    })
    .await;
    goes_on().await;
    for traffic in traffic {
        drop(traffic.stop().await);
    }
}

#[tokio::test]
async fn a_restart_is_warm() {
    let shop = Arc::new(Shop::demo());
    let mut penstock = Penstock::over(shop.clone())
        .policy("cache.toml", "[warming]\nqueries = 3\nproducts_per_category = 7\n")
        .start()
        .await;
    for (query, times) in [("desk", 6), ("lamp", 5), ("mug", 4), ("chair", 1)] {
        for _ in 0..times {
            penstock.get(&format!("/search?q={query}")).await.expect(200);
        }
    }
    let queries = penstock.admin("GET", "cache/queries", None).await.expect(200).json();
    assert_eq!(
        (&queries[0]["target"], &queries[0]["count"]),
        (&json!("/search?q=desk&k=10"), &json!(6))
    );
    penstock.signal("TERM");
    assert!(penstock.exit().await.success());
    let penstock = penstock.setup().start().await;
    until_true("it is warm", PATIENCE, async || {
        let warming = &penstock.status().await["caches"]["warming"];
        warming["running"] == false && warming["occasion"] == "start"
    })
    .await;
    for query in ["desk", "lamp", "mug"] {
        assert_eq!(cache(&penstock, &format!("/search?q={query}")).await, "hit-l1", "{query}");
    }
    assert_eq!(cache(&penstock, "/search?q=chair").await, "miss");
    assert_eq!(cache(&penstock, "/popular?k=7").await, "hit-l1");
    assert!(penstock.metric(r#"cache_warming_entries_total{outcome="made"}"#).await > 3.0);
    // On demand: what was asked since is among them.
    for _ in 0..9 {
        penstock.get("/search?q=sofa").await.expect(200);
    }
    command(&penstock, "cache/invalidate/all").await.expect(200);
    command(&penstock, "cache/warm").await.expect(202);
    until_true("it was warmed by hand", PATIENCE, async || {
        let warming = &penstock.status().await["caches"]["warming"];
        warming["running"] == false && warming["occasion"] == "operator"
    })
    .await;
    assert_eq!(cache(&penstock, "/search?q=sofa").await, "hit-l1");
}

#[tokio::test]
async fn layers_can_be_switched_off() {
    let penstock = cold().await;
    assert_eq!(cache(&penstock, "/search?q=lamp").await, "miss");
    assert_eq!(cache(&penstock, "/search?q=lamp").await, "hit-l1");
    let off = format!("{COLD}[results]\nenabled = false\n");
    penstock.shop.rename_policy("cache.toml", &off);
    until_true("it is off", PATIENCE, async || {
        cache(&penstock, "/search?q=lamp").await == "bypass"
    })
    .await;
    // What was found is remembered still.
    let hits = r#"cache_hits_total{cache_layer="l1",cache_type="candidates"}"#;
    let before = penstock.metric(hits).await;
    assert_eq!(cache(&penstock, "/search?q=lamp").await, "bypass");
    assert!(penstock.metric(hits).await > before);
    penstock.shop.rename_policy("cache.toml", "enabled = false\n");
    until_true("all is off", PATIENCE, async || cache(&penstock, "/popular?k=3").await == "bypass")
        .await;
    penstock.shop.rename_policy("cache.toml", COLD);
    until_true("it is on again", PATIENCE, async || {
        cache(&penstock, "/search?q=lamp").await == "hit-l1"
    })
    .await;
}

#[tokio::test]
async fn what_is_past_its_life_is_served_while_it_is_made_anew() {
    let quick = format!(
        "{COLD}[results]\nttl = \"1s\"\nempty_ttl = \"1s\"\ndegraded_ttl = \"1s\"\njitter = 0\nrefresh_ahead = 0\nstale_while_revalidate = \"1h\"\n"
    );
    let penstock = Penstock::over(Shop::demo()).policy("cache.toml", &quick).start().await;
    assert_eq!(cache(&penstock, "/search?q=lamp").await, "miss");
    let stale = until("its life is over", PATIENCE, async || {
        let reply = penstock.get("/search?q=lamp").await.expect(200);
        (reply.header("x-cache") == "stale").then_some(reply)
    })
    .await;
    assert_eq!(stale.header("x-penstock-mode"), "stale");
    until_true("it is made anew", PATIENCE, async || {
        cache(&penstock, "/search?q=lamp").await == "hit-l1"
    })
    .await;
}
