//! Who always passes and who never does.

use penstock_tests::{Penstock, Shop, Upstream, until};
use std::time::Duration;

const FEW: &str = "[address.search]\nper_minute = 1\nburst = 3\n";

async fn status(penstock: &Penstock, target: &str, from: &str) -> u16 {
    let request = penstock.request("GET", target).header("x-forwarded-for", from);
    penstock.send(request).await.status
}

#[tokio::test]
async fn the_longest_prefix_lets_in_or_keeps_out() {
    let upstream = Upstream::http1().await;
    let access = "\
[[deny]]\naddress = \"203.0.113.0/24\"\nreason = \"a scraper we know\"\n\
[[allow]]\naddress = \"203.0.113.7\"\n\
[[deny]]\naddress = \"2001:db8::/32\"\n\
[[allow]]\naddress = \"2001:db8:1::/48\"\n\
[[deny]]\naddress = \"198.51.100.1\"\nexpires = 2020-01-01T00:00:00Z\n";
    let penstock = Penstock::over(Shop::demo())
        .upstream(&[upstream.address])
        .policy("access.toml", access)
        .policy("limits.toml", FEW)
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    for (target, from, expected) in [
        ("/search?q=mug", "203.0.113.8", 403),
        ("/search?q=mug", "::ffff:203.0.113.8", 403),
        ("/search?q=mug", "2001:db8:2::1", 403),
        ("/search?q=mug", "2001:db8:1::1", 200),
        ("/search?q=mug", "198.51.100.1", 200),
        ("/search?q=mug", "192.0.2.1", 200),
        ("/recommend/%zz", "203.0.113.8", 403),
        ("/account", "203.0.113.8", 403),
        ("/account", "192.0.2.1", 200),
        ("/health", "203.0.113.8", 200),
    ] {
        assert_eq!(status(&penstock, target, from).await, expected, "{target} {from}");
    }
    // Exempt from limits, and the limit is there.
    for _ in 0..10 {
        assert_eq!(status(&penstock, "/search?q=mug", "203.0.113.7").await, 200);
    }
    let mut limited = Vec::new();
    for _ in 0..10 {
        limited.push(status(&penstock, "/search?q=mug", "192.0.2.2").await);
    }
    assert_eq!(limited.iter().filter(|&&status| status == 429).count(), 7, "{limited:?}");

    let request = penstock.request("GET", "/account").header("x-forwarded-for", "203.0.113.8");
    let reply = penstock.send(request.header("x-api-key", "psk_wrong")).await.expect(403);
    let problem = reply.problem();
    assert_eq!(problem["type"], "/problems/denied");
    assert!(!problem.to_string().contains("scraper"), "{problem}");
    let trace = reply.header("x-trace-id").to_owned();
    let record = until("the decision", Duration::from_secs(5), async || {
        let found = penstock.ops(&format!("/decisions/{trace}")).await;
        (found.status == 200).then(|| found.json())
    })
    .await;
    assert_eq!(record[0]["listed"]["entry"], "203.0.113.0/24");
    assert_eq!(record[0]["listed"]["reason"], "a scraper we know");
    let metrics = penstock.ops("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    for line in ["rate_limit_whitelist_size 2\n", "rate_limit_blacklist_size 2\n"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(metrics.contains("penstock_denied_total{by=\"address\"} 6\n"), "{metrics}");
}

#[tokio::test]
async fn a_command_is_in_force_at_once_and_can_be_taken_back() {
    let penstock = Penstock::demo().await;
    let control = |arguments: &[&str]| drop(penstock.shop.control(arguments).ok());
    let becomes = async |expected: u16| {
        until("the change is in force", Duration::from_secs(10), async || {
            let found = penstock.get("/popular?k=1").await.status;
            (found == expected).then_some(())
        })
        .await;
    };
    control(&["lists", "deny", "127.0.0.1", "--expires", "1h"]);
    becomes(403).await;
    penstock.get("/health").await.expect(200);
    control(&["lists", "remove", "127.0.0.1"]);
    becomes(200).await;
}
