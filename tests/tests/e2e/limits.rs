//! One client asks too often, another does not notice.

use penstock_tests::{Penstock, Reply, Shop, Upstream, until};
use std::time::Duration;

/// Low enough to be reached at once; the same query again and again is all right here.
const FEW: &str = "[abuse]\nenabled = false\n[address.search]\nper_minute = 10\nburst = 12\n";

/// Statuses of `count` requests that say they come from `from(n)`.
async fn statuses(penstock: &Penstock, count: usize, from: impl Fn(usize) -> String) -> Vec<u16> {
    let mut statuses = Vec::new();
    for n in 0..count {
        statuses.push(ask(penstock, &from(n)).await.status);
    }
    statuses
}

async fn ask(penstock: &Penstock, from: &str) -> Reply {
    let request = penstock.request("GET", "/search?q=mug").header("x-forwarded-for", from);
    penstock.send(request).await
}

fn passed(statuses: &[u16]) -> usize {
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|&&status| status == 200).count()
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    // The defaults: nothing was configured.
    let penstock = Penstock::over(Shop::demo()).policy("limits.toml", "").start().await;
    for n in 1..=150 {
        let reply = penstock.get(&format!("/search?q=mug+{n}&k=1")).await.expect(200);
        assert_eq!(reply.header("x-ratelimit-limit"), "150");
        assert_eq!(reply.header("x-ratelimit-remaining"), (150 - n).to_string());
        assert!(reply.header("ratelimit-policy").contains(";w=60"));
    }
    let refused = penstock.get("/search?q=mug&k=1").await.expect(429);
    assert!(refused.problem()["type"].as_str().unwrap().ends_with("/too-many-requests"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=63).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    penstock.get("/search/explain?q=mug&product_id=x").await.expect(429);

    // Other classes have limits of their own, health has none.
    penstock.get("/popular").await.expect(200);
    for _ in 0..200 {
        let reply = penstock.get("/health").await.expect(200);
        assert!(!reply.headers.contains_key("x-ratelimit-limit"));
    }
    let metrics = penstock.ops("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics);
    let hits = "rate_limit_hits_total{endpoint=\"search\",type=\"address\"} 1\n";
    assert!(metrics.contains(hits), "{metrics}");
}

#[tokio::test]
async fn nothing_a_stranger_writes_buys_a_request() {
    let penstock = Penstock::over(Shop::demo()).policy("limits.toml", FEW).start().await;
    let forged = statuses(&penstock, 30, |n| format!("203.0.113.{n}")).await;
    assert_eq!(passed(&forged), 12);
    for (name, value) in [
        ("X-Real-IP", "203.0.113.200"),
        ("Forwarded", "for=203.0.113.201"),
        ("x-FORWARDED-for", "203.0.113.202, 203.0.113.203"),
        ("X_Forwarded_For", "203.0.113.204"),
        ("True-Client-IP", "203.0.113.205"),
    ] {
        let request = penstock.request("GET", "/search?q=mug").header(name, value);
        penstock.send(request).await.expect(429);
    }
    for target in ["/search?q=cup", "/search/?q=mug", "/search?q=mug&user_id=u&k=100"] {
        penstock.get(target).await.expect(429);
    }
}

#[tokio::test]
async fn who_asks_on_and_on_is_answered_slowly_and_nobody_else_is() {
    let slow = format!("{FEW}[refusals]\nper_second = 1\nlongest_pause = \"200ms\"\n");
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", &slow)
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let paused = async || {
        let metrics = String::from_utf8(penstock.ops("/metrics").await.body.to_vec()).unwrap();
        let line = "penstock_refusals_paused_total ";
        let count = metrics.lines().find_map(|each| each.strip_prefix(line)).unwrap();
        count.parse::<usize>().unwrap()
    };
    let flood = statuses(&penstock, 20, |_| "203.0.113.7".into()).await;
    assert_eq!(passed(&flood), 12);
    let refused = ask(&penstock, "203.0.113.7").await.expect(429);
    // The first refusal is at once, the others are not.
    assert_eq!(paused().await, 8);
    assert_eq!(passed(&statuses(&penstock, 13, |_| "203.0.113.8".into()).await), 12);
    assert_eq!(paused().await, 8);
    let trace = refused.header("x-trace-id");
    let decision = until("the decision is kept", Duration::from_secs(10), async || {
        let reply = penstock.ops(&format!("/decisions/{trace}")).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    let stages = decision[0]["stages"].as_array().unwrap();
    let pause = stages.iter().find(|stage| stage["name"] == "pause").unwrap();
    assert_eq!(pause["micros"], 200_000);
    // Whom the deny list has is refused no faster.
    penstock.shop.rename_policy("access.toml", "[[deny]]\naddress = \"203.0.113.9\"\n");
    until("the list is in force", Duration::from_secs(10), async || {
        (ask(&penstock, "203.0.113.9").await.status == 403).then_some(())
    })
    .await;
    ask(&penstock, "203.0.113.9").await.expect(403);
    assert!(paused().await > 8);
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_have_a_limit_each() {
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", FEW)
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    assert_eq!(passed(&statuses(&penstock, 20, |_| "203.0.113.7".into()).await), 12);
    assert_eq!(passed(&statuses(&penstock, 20, |_| "203.0.113.8".into()).await), 12);
    // What is left of the address the proxy vouches for was written by somebody else.
    let left = |n| format!("198.51.100.{n}, 203.0.113.8");
    assert_eq!(passed(&statuses(&penstock, 20, left).await), 0);
    // All of a household's addresses are one client; so is an IPv4 address in IPv6 clothes.
    let household = |n| format!("2001:db8:1:2:{n:x}::{n:x}");
    assert_eq!(passed(&statuses(&penstock, 20, household).await), 12);
    assert_eq!(passed(&statuses(&penstock, 5, |_| "::ffff:203.0.113.7".into()).await), 0);
}

#[tokio::test]
async fn a_changed_limit_keeps_the_count() {
    let penstock = Penstock::over(Shop::demo()).policy("limits.toml", FEW).start().await;
    let nobody = |_| String::from("-");
    assert_eq!(passed(&statuses(&penstock, 10, nobody).await), 10);
    let change = async |content: &str| {
        let before = penstock.status().await["policy"]["version"].clone();
        penstock.shop.rename_policy("limits.toml", content);
        until("the change is in force", Duration::from_secs(10), async || {
            (penstock.status().await["policy"]["version"] != before).then_some(())
        })
        .await;
    };
    change(&FEW.replace("10", "20").replace("12", "25")).await;
    assert_eq!(passed(&statuses(&penstock, 20, nobody).await), 15);
    change(&format!("{FEW}shadow = true\n")).await;
    let replies = statuses(&penstock, 5, nobody).await;
    assert_eq!(passed(&replies), 5, "a shadow refuses nobody");
    change(FEW).await;
    assert_eq!(passed(&statuses(&penstock, 5, nobody).await), 0);
}

#[tokio::test]
async fn what_passes_through_can_be_limited_too() {
    let upstream = Upstream::http1().await;
    let limits = "[address.passthrough]\nenabled = true\nper_minute = 10\nburst = 12\n";
    let penstock = Penstock::over(Shop::empty())
        .upstream(&[upstream.address])
        .policy("limits.toml", limits)
        .start()
        .await;
    for left in (0..12).rev() {
        let reply = penstock.get("/page").await.expect(200);
        assert_eq!(reply.header("x-ratelimit-remaining"), left.to_string());
    }
    penstock.get("/page").await.expect(429);
    assert_eq!(upstream.requests().len(), 12);
}

#[tokio::test]
async fn a_key_has_its_own_limit_wherever_it_comes_from() {
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", &format!("{FEW}[key.search]\nper_minute = 20\nburst = 30\n"))
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let make = |arguments: &[&str]| {
        let create = ["keys", "create", "--name", "till", "--json"];
        let made = penstock.shop.control(&[&create[..], arguments].concat()).ok().stdout;
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        made["key"].as_str().unwrap().to_owned()
    };
    let keys = [make(&[]), make(&["--limit", "search=5/7"])];
    until("the keys are in force", Duration::from_secs(5), async || {
        (penstock.status().await["keys"]["keys"] == 2).then_some(())
    })
    .await;
    for (key, limit) in keys.iter().zip([30, 7]) {
        let mut statuses = Vec::new();
        for n in 0..40 {
            let request = penstock
                .request("GET", "/search?q=mug")
                .bearer_auth(key)
                .header("x-forwarded-for", format!("203.0.113.{n}"));
            let reply = penstock.send(request).await;
            assert_eq!(reply.header("x-ratelimit-limit"), limit.to_string());
            statuses.push(reply.status);
        }
        assert_eq!(passed(&statuses), limit);
    }
    // The addresses they came from have all of their own.
    assert_eq!(passed(&statuses(&penstock, 20, |_| "203.0.113.3".into()).await), 12);
}

/// A flood is refused; somebody else's requests all pass.
#[tokio::test]
async fn a_flood_is_its_own_clients_affair() {
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", FEW)
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let stranger = |_| String::from("203.0.113.8");
    let flood = || statuses(&penstock, 400, stranger);
    let polite = statuses(&penstock, 12, |_| "203.0.113.9".into());
    let (one, other, polite) = tokio::join!(flood(), flood(), polite);
    assert_eq!(passed(&polite), 12);
    assert!(passed(&one) + passed(&other) <= 13);
}
