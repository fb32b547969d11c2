//! Who abuses is found out and refused for a while; who does not is not touched.

use penstock_tests::{Penstock, RedisServer, Shop, until};
use serde_json::Value;
use std::time::Duration;

/// No limit but those of abuse, and penalties a test can wait for.
const ABUSE: &str = "\
[address.search]
enabled = false
[address.recommend]
enabled = false
[abuse.penalty]
first = \"2s\"
factor = 10
";

async fn start() -> Penstock {
    Penstock::over(Shop::demo())
        .policy("limits.toml", ABUSE)
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await
}

/// The status of a request of `client`.
async fn ask(penstock: &Penstock, client: &str, target: &str) -> u16 {
    let request = penstock.request("GET", target).header("x-forwarded-for", client);
    penstock.send(request).await.status
}

async fn flagged(penstock: &Penstock) -> Vec<Value> {
    let all = penstock.command("GET", "flagged", None).await.expect(200).json();
    serde_json::from_value(all).unwrap()
}

#[tokio::test]
async fn the_same_query_again_and_again_is_refused_and_nothing_else() {
    let penstock = start().await;
    for n in 0..20 {
        // Spelt differently, the same query.
        let target = if n % 2 == 0 { "/search?q=Lamp" } else { "/search?q=+lamp&k=3" };
        assert_eq!(ask(&penstock, "203.0.113.1", target).await, 200, "{n}");
    }
    let request =
        penstock.request("GET", "/search?q=lamp").header("x-forwarded-for", "203.0.113.1");
    let refused = penstock.send(request).await.expect(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert_eq!(wait, 2);
    assert!(refused.problem()["detail"].as_str().unwrap().contains("this query too often"));
    // Another query, another client.
    assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=mug").await, 200);
    assert_eq!(ask(&penstock, "203.0.113.2", "/search?q=lamp").await, 200);

    let rows = flagged(&penstock).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["client"], "203.0.113.1");
    assert_eq!(rows[0]["pattern"], "repeated_query");
    assert!(rows[0]["evidence"].as_str().unwrap().contains("lamp"), "{rows:?}");
    let metrics = String::from_utf8(penstock.ops("/metrics").await.body.to_vec()).unwrap();
    for line in [
        "rate_limit_abuse_detected_total{pattern=\"repeated_query\"} 1\n",
        "rate_limit_hits_total{endpoint=\"search\",type=\"abuse\"} 1\n",
        "penstock_rate_limit_flagged 1\n",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    assert!(penstock.logs().contains("abuse detected"), "{}", penstock.logs());

    // Exactly as long as it was told.
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=lamp").await, 200);
}

#[tokio::test]
async fn walking_through_the_products_is_refused_and_pardoned() {
    let penstock = start().await;
    let walk = async |from: usize, count: usize| {
        let mut statuses = Vec::new();
        for n in 0..count {
            // Across both addresses, with something else in between.
            let id = format!("SHO-{:05}", from + 2 * n);
            let target =
                if n % 3 == 0 { format!("/similar/{id}") } else { format!("/products/{id}") };
            statuses.push(ask(&penstock, "203.0.113.1", &target).await);
            ask(&penstock, "203.0.113.1", "/products/HOM-00007").await;
        }
        statuses
    };
    let statuses = walk(1_000, 21).await;
    assert!(statuses[..19].iter().all(|status| *status != 429), "{statuses:?}");
    assert_eq!(statuses[20], 429, "{statuses:?}");
    // The products are closed to it, search is not.
    assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=mug").await, 200);
    let evidence = flagged(&penstock).await[0]["evidence"].as_str().unwrap().to_owned();
    assert!(evidence.contains("SHO-01000") && evidence.contains("steps of 2"), "{evidence}");

    let pardon = serde_json::json!({"client": "203.0.113.1"});
    penstock.command("POST", "pardon", Some(&pardon)).await.expect(200);
    assert_ne!(ask(&penstock, "203.0.113.1", "/products/SHO-01144").await, 429);
    assert!(flagged(&penstock).await.is_empty());
    penstock.command("POST", "pardon", Some(&pardon)).await.expect(404);

    // Again, and again: the whole client, for longer.
    walk(2_000, 21).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*walk(3_000, 21).await.last().unwrap(), 429);
    assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=mug").await, 429);
    let rows = flagged(&penstock).await;
    assert_eq!(rows[0]["offences"], 2);
}

#[tokio::test]
async fn twenty_shoppers_behind_one_address_are_left_alone() {
    let penstock = start().await;
    for round in 0..15 {
        for shopper in 0..20 {
            let target = match round % 3 {
                0 => format!("/search?q=lamp+{shopper}+{round}"),
                1 => format!("/products/SHO-{:05}", (shopper * 7_919 + round * 104_729) % 1_500),
                _ => format!("/recommend/user-{shopper}"),
            };
            let status = ask(&penstock, "203.0.113.1", &target).await;
            assert!(status == 200 || status == 404, "{target}: {status}");
        }
    }
    assert!(flagged(&penstock).await.is_empty());
}

/// What one instance found out, another refuses; a pardon reaches it, too.
#[tokio::test]
async fn a_fleet_knows_together() {
    let redis = RedisServer::start().await;
    let shop = Shop::demo();
    let start = async |name: &str, shop: Shop| {
        Penstock::over(shop)
            .env("PENSTOCK_REDIS_URL", redis.url())
            .env("PENSTOCK_INSTANCE", name)
            .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
            .policy("limits.toml", &ABUSE.replace("2s", "10m"))
            .start()
            .await
    };
    let other = start("two", shop.copy()).await;
    let mut one = start("one", shop).await;
    for _ in 0..21 {
        ask(&one, "203.0.113.1", "/search?q=lamp").await;
    }
    until("the other one refuses", Duration::from_secs(10), async || {
        (ask(&other, "203.0.113.1", "/search?q=lamp").await == 429).then_some(())
    })
    .await;
    // A restart forgets nothing.
    one.kill();
    let one = one.setup().start().await;
    until("it knows again", Duration::from_secs(10), async || {
        (ask(&one, "203.0.113.1", "/search?q=lamp").await == 429).then_some(())
    })
    .await;
    let pardon = serde_json::json!({"client": "203.0.113.1"});
    let said = other.command("POST", "pardon", Some(&pardon)).await.expect(200).json();
    assert_eq!(said, serde_json::json!({"pardoned": "203.0.113.1", "everywhere": true}));
    for instance in [&other, &one] {
        until("it is pardoned", Duration::from_secs(10), async || {
            (ask(instance, "203.0.113.1", "/search?q=lamp").await == 200).then_some(())
        })
        .await;
    }
}

/// With a Redis, too, a known offender is counted and found out again.
#[tokio::test]
async fn a_fleet_finds_second_offences() {
    let redis = RedisServer::start().await;
    let penstock = Penstock::over(Shop::demo())
        .env("PENSTOCK_REDIS_URL", redis.url())
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .policy("limits.toml", ABUSE)
        .start()
        .await;
    for _ in 0..20 {
        assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=lamp").await, 200);
    }
    assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=lamp").await, 429);
    until("the penalty is over", Duration::from_secs(10), async || {
        (ask(&penstock, "203.0.113.1", "/search?q=lamp").await == 200).then_some(())
    })
    .await;
    let end = flagged(&penstock).await[0]["penalty_until_micros"].clone();
    // Slower than the instance looks at the board.
    for n in 0..19 {
        assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=lamp").await, 200, "{n}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(flagged(&penstock).await[0]["penalty_until_micros"], end, "it stays where it was");
    assert_eq!(ask(&penstock, "203.0.113.1", "/search?q=lamp").await, 429);
    let rows = flagged(&penstock).await;
    assert_eq!((&rows[0]["offences"], &rows[0]["scope"]["of"]), (&2.into(), &"client".into()));
}

/// A pardon given while Redis is away is kept over a restart and told when Redis is back.
#[tokio::test]
async fn a_pardon_outlives_an_outage() {
    let mut redis = RedisServer::with_aof().await;
    let shop = Shop::demo();
    let url = redis.url();
    let start = async |name: &str, shop: Shop| {
        Penstock::over(shop)
            .env("PENSTOCK_REDIS_URL", &url)
            .env("PENSTOCK_INSTANCE", name)
            .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
            .policy("limits.toml", &ABUSE.replace("2s", "10m"))
            .start()
            .await
    };
    let other = start("two", shop.copy()).await;
    let data = shop.data().to_owned();
    let mut one = start("one", shop).await;
    for _ in 0..21 {
        ask(&one, "203.0.113.1", "/search?q=lamp").await;
    }
    until("the other one refuses", Duration::from_secs(10), async || {
        (ask(&other, "203.0.113.1", "/search?q=lamp").await == 429).then_some(())
    })
    .await;
    redis.kill();
    let pardon = serde_json::json!({"client": "203.0.113.1"});
    let said = one.command("POST", "pardon", Some(&pardon)).await.expect(200).json();
    assert_eq!(said, serde_json::json!({"pardoned": "203.0.113.1", "everywhere": false}));
    until("it is kept", Duration::from_secs(10), async || {
        let kept = std::fs::read_to_string(data.join("flagged.json")).ok()?;
        (kept.contains("pardoned_micros") && !kept.contains("penalty_until")).then_some(())
    })
    .await;
    one.kill();
    let one = one.setup().start().await;
    // The other one keeps refusing, which makes nothing newer.
    assert_eq!(ask(&other, "203.0.113.1", "/search?q=lamp").await, 429);
    redis.restart().await;
    for instance in [&other, &one] {
        until("it is pardoned", Duration::from_secs(30), async || {
            (ask(instance, "203.0.113.1", "/search?q=lamp").await == 200).then_some(())
        })
        .await;
    }
    assert!(flagged(&one).await.is_empty() && flagged(&other).await.is_empty());
}
