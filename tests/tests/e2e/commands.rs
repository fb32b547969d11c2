//! Commands on the operations listener.

use penstock_tests::{Penstock, RedisServer, Shop, Upstream, until};
use serde_json::json;
use std::time::Duration;

async fn ask(penstock: &Penstock, client: &str) -> u16 {
    let request = penstock.request("GET", "/page").header("x-forwarded-for", client);
    penstock.send(request).await.status
}

async fn becomes(penstock: &Penstock, client: &str, status: u16) {
    until("the change is in force", Duration::from_secs(10), async || {
        (ask(penstock, client).await == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_without_the_token_gives_commands() {
    let penstock = Penstock::over(Shop::empty()).spawn();
    let mut penstock = penstock;
    penstock.wait_alive().await;
    for (method, command) in [("GET", "status"), ("GET", "flagged"), ("POST", "blacklist")] {
        let url = format!("/admin/rate-limit/{command}");
        let bare = penstock.ops_request(method, &url);
        penstock.send(bare).await.expect(401);
        for line in ["Bearer wrong", "Basic cGVuc3RvY2s6", "Bearer "] {
            let request = penstock.ops_request(method, &url).header("authorization", line);
            let refused = penstock.send(request).await.expect(401);
            assert!(refused.header("www-authenticate").starts_with("Bearer"));
        }
    }
    // What is looked at needs none.
    penstock.ops("/status").await.expect(200);
    let token = std::fs::read_to_string(penstock.shop.data().join("ops.token")).unwrap();
    assert!(!penstock.logs().contains(token.trim()));
    penstock.command("GET", "nonsense", None).await.expect(404);
    penstock.command("DELETE", "status", None).await.expect(405);
}

#[tokio::test]
async fn breakers_are_looked_at_and_forced() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::over(Shop::demo()).upstream(&[upstream.address]).start().await;
    let server = format!("upstream:{}", upstream.address);
    let all = penstock.admin("GET", "breakers", None).await.expect(200).json();
    let names: Vec<&str> =
        all.as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["store", &server], "there is no Redis");
    assert_eq!(all[0]["state"], "closed");
    let force = async |name: &str, to: serde_json::Value| {
        penstock.admin("POST", &format!("breakers/{name}"), Some(&json!({"force": to}))).await
    };
    // Somebody else each time: what is remembered needs no store.
    let users = std::cell::Cell::new(0);
    let mode = async || {
        users.set(users.get() + 1);
        let reply = penstock.get(&format!("/recommend/u{}", users.get())).await.expect(200);
        reply.header("x-penstock-mode").to_owned()
    };
    let state = async |name: &str| {
        penstock.metric(&format!("penstock_breaker_state{{dependency=\"{name}\"}}")).await
    };

    assert_eq!(mode().await, "full");
    let forced = force("store", json!("open")).await.expect(200).json();
    assert_eq!((&forced["state"], &forced["forced"]), (&json!("open"), &json!("open")));
    assert_eq!(mode().await, "unpersonalised");
    assert_eq!(state("store").await as u32, 1);
    force("store", json!(null)).await.expect(200);
    assert_eq!(mode().await, "full");
    assert_eq!(state("store").await as u32, 0);

    penstock.get("/page").await.expect(200);
    force(&server, json!("open")).await.expect(200);
    penstock.get("/page").await.expect(503).problem();
    assert_eq!(state(&server).await as u32, 1);
    force(&server, json!("closed")).await.expect(200);
    penstock.get("/page").await.expect(200);
    let one = penstock.admin("GET", &format!("breakers/{server}"), None).await.expect(200).json();
    assert_eq!((&one["state"], &one["forced"]), (&json!("closed"), &json!("closed")));

    let unknown = force("coffee", json!("open")).await.expect(404).json();
    assert_eq!(unknown["known"], json!(["store", server]));
    for body in [json!({}), json!({"force": "ajar"}), json!({"force": "open", "for": "1h"})] {
        let refused = penstock.admin("POST", "breakers/store", Some(&body)).await.expect(400);
        assert!(refused.json()["error"].as_str().unwrap().contains("send {"), "{body}");
    }
    penstock.admin("DELETE", "breakers/store", None).await.expect(405);
    penstock.admin("POST", "breakers", None).await.expect(405);
    penstock.admin("GET", "coffee", None).await.expect(404);
    let bare = penstock.ops_request("GET", "/admin/breakers");
    penstock.send(bare).await.expect(401);
}

#[tokio::test]
async fn the_lists_are_changed_in_the_policy_folder() {
    let mut penstock = Penstock::over(Shop::empty())
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .policy("limits.toml", "[address.passthrough]\nenabled = true\nper_minute = 2\nburst = 4\n")
        .spawn();
    penstock.wait_alive().await;
    let deny = json!({"target": "203.0.113.0/24", "reason": "scraper", "by": "ann"});
    penstock.command("POST", "blacklist", Some(&deny)).await.expect(201);
    becomes(&penstock, "203.0.113.9", 403).await;
    assert_eq!(ask(&penstock, "203.0.114.9").await, 404);
    let allow = json!({"target": "203.0.113.9", "expires": "1h"});
    penstock.command("POST", "whitelist", Some(&allow)).await.expect(201);
    becomes(&penstock, "203.0.113.9", 404).await;
    for _ in 0..10 {
        assert_eq!(ask(&penstock, "203.0.113.9").await, 404, "no limit applies");
    }
    let listed = penstock.command("GET", "whitelist", None).await.expect(200).json();
    assert_eq!(listed[0]["address"], "203.0.113.9");
    assert!(listed[0]["expires"].is_string());
    let metrics = String::from_utf8(penstock.ops("/metrics").await.body.to_vec()).unwrap();
    for line in ["rate_limit_whitelist_size 1\n", "rate_limit_blacklist_size 1\n"] {
        assert!(metrics.contains(line), "{line}");
    }
    // It is a version of the policy, with a name to it.
    let access = std::fs::read_to_string(penstock.shop.policy().join("access.toml")).unwrap();
    assert!(access.contains("scraper"), "{access}");
    let history = penstock.shop.control(&["policy", "history"]).ok().stdout;
    assert!(history.contains("ann"), "{history}");

    penstock.command("DELETE", "blacklist?target=203.0.113.0%2F24", None).await.expect(200);
    becomes(&penstock, "203.0.113.10", 404).await;
    penstock.command("DELETE", "blacklist?target=203.0.113.0/24", None).await.expect(404);
    for (body, expected) in [
        (json!({"target": "nonsense"}), "is no address"),
        (json!({"target": "10.0.0.1", "expires": "soon"}), "write how long"),
        (json!({"target": "10.0.0.1", "until": "1h"}), "unknown field"),
        (json!([]), "send {"),
    ] {
        let refused = penstock.command("POST", "blacklist", Some(&body)).await.expect(400).json();
        assert!(refused["error"].as_str().unwrap().contains(expected), "{refused}");
    }
    // How it stands with one client.
    for _ in 0..3 {
        ask(&penstock, "198.51.100.1").await;
    }
    let status = penstock.command("GET", "status?client=198.51.100.1", None).await.expect(200);
    assert_eq!(status.json()["used_here"][0]["used"], 3);
    let status = penstock.command("GET", "status", None).await.expect(200).json();
    assert!(status["rules"].as_array().unwrap().len() >= 6, "{status}");
}

#[tokio::test]
async fn the_lists_of_a_fleet_are_in_redis_and_outlive_it() {
    let mut redis = RedisServer::start().await;
    let mut fleet = Vec::new();
    for name in ["one", "two"] {
        let mut instance = Penstock::over(Shop::empty())
            .env("PENSTOCK_REDIS_URL", redis.url())
            .env("PENSTOCK_INSTANCE", name)
            .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
            .spawn();
        instance.wait_alive().await;
        fleet.push(instance);
    }
    let deny = json!({"target": "203.0.113.0/24"});
    until("Redis is connected", Duration::from_secs(10), async || {
        (fleet[0].command("POST", "blacklist", Some(&deny)).await.status == 201).then_some(())
    })
    .await;
    for instance in &fleet {
        becomes(instance, "203.0.113.1", 403).await;
    }
    // From the command line, too.
    let url = redis.url();
    let lists = ["lists", "--redis", &url, "deny", "198.51.100.7", "--reason", "scraper"];
    drop(fleet[1].shop.control(&lists).ok());
    for instance in &fleet {
        becomes(instance, "198.51.100.7", 403).await;
    }
    let shown = fleet[0].shop.control(&["lists", "--redis", &url, "show"]).ok().stdout;
    assert!(shown.contains("203.0.113.0/24") && shown.contains("scraper"), "{shown}");

    // Without Redis what was heard last is in force, after a restart as well; changes are refused.
    redis.kill();
    let two = fleet.pop().unwrap();
    let mut two = two;
    two.kill();
    let mut two = two.setup().spawn();
    two.wait_alive().await;
    assert_eq!(ask(&two, "203.0.113.1").await, 403);
    fleet[0].command("POST", "whitelist", Some(&deny)).await.expect(503);

    // It comes back without its data: the instances put the lists back.
    redis.restart().await;
    let target = "203.0.113.0/24";
    until("the lists are there again", Duration::from_secs(40), async || {
        let shown = two.shop.control(&["lists", "--redis", &url, "show"]).ok().stdout;
        shown.contains(target).then_some(())
    })
    .await;
    for instance in [&fleet[0], &two] {
        assert_eq!(ask(instance, "203.0.113.1").await, 403);
    }
}
