//! Start, stop, replacement of the binary, and settings that are wrong.

use penstock_tests::binaries::{run_with, text};
use penstock_tests::penstock::START;
use penstock_tests::{Penstock, Shop, Traffic, Upstream, until};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_what_is_under_way_finish() {
    let upstream = Upstream::http1().await;
    let mut penstock = Penstock::over(Shop::empty())
        .upstream(&[upstream.address])
        .env("PENSTOCK_DRAIN_SECONDS", 8)
        .start()
        .await;
    let slow = tokio::spawn(penstock.request("GET", "/sleep/2500").send());
    let streaming = tokio::spawn(async move { slow.await.unwrap().unwrap().status() });
    until("the slow request is under way", Duration::from_secs(10), async || {
        (!upstream.requests().is_empty()).then_some(())
    })
    .await;
    penstock.signal("TERM");
    let ops = format!("http://{}/readyz", penstock.ops);
    until("not ready while draining", Duration::from_secs(2), async || {
        let answer = reqwest::get(&ops).await.ok()?;
        (answer.status() == 503).then_some(())
    })
    .await;
    assert_eq!(streaming.await.unwrap(), 200);
    let status = penstock.exit().await;
    assert!(status.success(), "{status}\n{}", penstock.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_can_be_cut_short() {
    for second in ["TERM", "INT"] {
        let upstream = Upstream::http1().await;
        let mut penstock = Penstock::over(Shop::empty())
            .upstream(&[upstream.address])
            .env("PENSTOCK_DRAIN_SECONDS", 50)
            .start()
            .await;
        let slow = tokio::spawn(penstock.request("GET", "/sleep/60000").send());
        until("the slow request is under way", Duration::from_secs(10), async || {
            (!upstream.requests().is_empty()).then_some(())
        })
        .await;
        penstock.signal("TERM");
        until("it drains", Duration::from_secs(10), async || {
            (penstock.ops("/readyz").await.status == 503).then_some(())
        })
        .await;
        let asked = penstock_config::clock::now();
        penstock.signal(second);
        let status = penstock.exit().await;
        assert!(status.success(), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{second}: {:?}", asked.elapsed());
        assert!(slow.await.unwrap().is_err(), "{second}");
    }
}

#[tokio::test]
async fn sigterm_without_work_ends_soon() {
    let mut penstock = Penstock::over(Shop::empty()).env("PENSTOCK_DRAIN_SECONDS", 2).start().await;
    // A connection that is kept open is no work.
    let mut idle = penstock.raw().await;
    idle.send("GET /health HTTP/1.1\r\nHost: s\r\n\r\n").await.reply().await.unwrap();
    let asked = penstock_config::clock::now();
    penstock.signal("TERM");
    let status = penstock.exit().await;
    println!("gone after {:?}", asked.elapsed());
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_is_replaced_without_a_dropped_request() {
    let upstream = Upstream::http1().await;
    let mut old = Penstock::over(Shop::demo())
        .upstream(&[upstream.address])
        .env("PENSTOCK_DRAIN_SECONDS", 3)
        .start()
        .await;
    let kept = Traffic::keep_alive(&old.url("/popular"), 2);
    let fresh = Traffic::new_connections(&old.url("/search?q=a"), 2);
    let through = Traffic::new_connections(&old.url("/page"), 1);
    fresh.wait_for(50).await;
    let mut new = old.setup().arg("--upgrade").spawn();
    // The new process prepares itself, then waits for the sockets.
    let meeting_place = old.shop.data().join("upgrade.sock");
    until("the new process waits", START, async || {
        assert!(new.is_running(), "{}", new.logs());
        meeting_place.exists().then_some(())
    })
    .await;
    // Longer than Pingora waits by itself.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(new.is_running(), "{}", new.logs());
    old.signal("QUIT");
    let status = old.exit().await;
    assert!(status.success(), "{status}\n{}", old.logs());
    new.wait_ready().await;
    fresh.wait_for(50).await;
    let requests = kept.stop().await.len() + fresh.stop().await.len() + through.stop().await.len();
    println!("{requests} requests over the change, none failed");
    assert!(new.is_running());
    new.items("/popular").await;
}

#[tokio::test]
async fn sigquit_without_a_new_process_changes_nothing() {
    let mut penstock = Penstock::over(Shop::empty()).start().await;
    // Left behind by an upgrade that was killed.
    let stale = penstock.shop.data().join("upgrade.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    penstock.signal("QUIT");
    until("it says why", Duration::from_secs(20), async || {
        penstock.logs().contains("no new process waits").then_some(())
    })
    .await;
    assert!(penstock.is_running());
    penstock.get("/health").await.expect(200);
}

#[tokio::test]
async fn an_upgrade_to_other_addresses_is_refused() {
    let old = Penstock::over(Shop::empty()).start().await;
    let mut new = old
        .setup()
        .env("PENSTOCK_LISTEN", penstock_tests::penstock::free_address())
        .arg("--upgrade")
        .spawn();
    let status = new.exit().await;
    assert!(!status.success());
    assert!(new.logs().contains("keeps its addresses"), "{}", new.logs());
    old.get("/health").await.expect(200);
}

#[tokio::test]
async fn a_second_instance_on_the_same_port_is_a_clear_error() {
    let first = Penstock::over(Shop::empty()).start().await;
    let mut second = Penstock::over(Shop::empty()).env("PENSTOCK_LISTEN", first.address).spawn();
    let status = second.exit().await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let logs = second.logs();
    assert!(logs.contains(&first.address.to_string()), "{logs}");
    assert!(logs.contains("in use"), "{logs}");
    assert!(!logs.contains("panicked"), "{logs}");
    first.get("/health").await.expect(200);
}

#[tokio::test]
async fn all_problems_of_the_settings_are_listed_at_once() {
    let shop = Shop::empty();
    let config = shop.write(
        "penstock.toml",
        "data_dri = \"x\"\nworkers = 0\n[listen]\npublic = \"nowhere\"\nops = \"127.0.0.1:99999\"\n\
         [bounds]\nmax_header_bytes = 1\n",
    );
    let ran = run_with(
        "penstock",
        &["run", "--config", text(&config)],
        &[("PENSTOCK_UPSTREAM", "gopher://x"), ("PENSTOCK_TRUSTED_PROXIES", "everybody")],
    )
    .refused();
    let said = ran.text();
    for problem in [
        "data_dri",
        "workers",
        "public",
        "ops",
        "max_header_bytes",
        "PENSTOCK_UPSTREAM",
        "PENSTOCK_TRUSTED_PROXIES",
    ] {
        assert!(said.contains(problem), "{problem} is missing:\n{said}");
    }
    let missing = run_with("penstock", &["run", "--config", "no/such.toml"], &[]).refused();
    assert!(missing.text().contains("no/such.toml"), "{}", missing.text());
}

#[tokio::test]
async fn check_reads_the_settings_that_run_would() {
    let shop = Shop::empty();
    let broken = shop.write("broken.toml", "workers = 0\n");
    let data = text(shop.data());
    let env = [("PENSTOCK_CONFIG", text(&broken)), ("PENSTOCK_DATA_DIR", data)];
    let named = run_with("penstock", &["check"], &env).refused();
    assert!(named.text().contains("workers"), "{}", named.text());
    let given = run_with("penstock", &["check", "--config", text(&broken)], &env[1..]).refused();
    assert!(given.text().contains("workers"), "{}", given.text());
    let _ = run_with("penstock", &["check"], &env[1..]).ok();
}
