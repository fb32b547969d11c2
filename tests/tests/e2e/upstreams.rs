//! Applications that are slow, dead, half dead or back again.

use penstock_tests::penstock::free_address;
use penstock_tests::{Penstock, Shop, Upstream, until};
use std::time::Duration;

#[tokio::test]
async fn a_dead_application_is_a_502_that_says_so() {
    let penstock = Penstock::before(&[free_address()]).await;
    for method in ["GET", "POST"] {
        let reply = penstock.send(penstock.request(method, "/page").body("x")).await;
        // Known to be dead (health check) or found out (refused).
        assert!(matches!(reply.status, 502 | 503), "{}", reply.describe());
        reply.problem();
    }
}

#[tokio::test]
async fn answers_that_are_no_http_are_a_502() {
    for bytes in [
        "\u{16}\u{3} this is no HTTP\n\n",
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\nab",
        "HTTP/1.1 999999 OK\r\n\r\n",
    ] {
        let upstream = Upstream::says(bytes).await;
        let penstock = Penstock::before(&[upstream.address]).await;
        let reply = penstock.get("/page").await;
        assert_eq!(reply.status, 502, "{bytes:?}: {}", reply.describe());
        reply.problem();
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_written_down() {
    let upstream =
        Upstream::says("HTTP/1.1 200 OK\r\nSet-Cookie: session=s3cret\r\nno colon\r\n\r\n").await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let trace = penstock.get("/page").await.expect(502).header("x-trace-id").to_owned();
    until("the line of the log", Duration::from_secs(5), async || {
        penstock.logs().contains(&trace).then_some(())
    })
    .await;
    let status = penstock.status().await.to_string();
    let decision = penstock.ops(&format!("/decisions/{trace}")).await.expect(200).json();
    for kept in [penstock.logs(), status, decision.to_string()] {
        assert!(!kept.contains("s3cret"), "{kept}");
    }
    assert_eq!(decision[0]["upstream"]["faults"][0], "Upstream InvalidHTTPHeader");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let upstream = Upstream::says(bytes).await;
        let penstock = Penstock::before(&[upstream.address]).await;
        let answer = penstock.request("GET", "/page").send().await;
        let whole = match answer {
            Ok(answer) if answer.status() == 200 => answer.bytes().await.is_ok(),
            Ok(answer) => {
                assert_eq!(answer.status(), 502, "{bytes:?}");
                false
            }
            Err(_) => false,
        };
        assert!(!whole, "{bytes:?}");
        assert!(penstock.get("/health").await.is_success());
    }
}

#[tokio::test]
async fn an_application_that_is_silent_is_a_504() {
    let upstream = Upstream::silent().await;
    let penstock = Penstock::over(Shop::empty())
        .policy("resilience.toml", "[upstream]\nread = \"300ms\"\nretries = 0\n")
        .upstream(&[upstream.address])
        .start()
        .await;
    for method in ["GET", "POST"] {
        let reply = penstock.send(penstock.request(method, "/page")).await;
        reply.expect(504).problem();
    }
}

/// A proxy whose application has 300 ms for an answer.
async fn impatient(scheme: &str, upstream: &Upstream) -> Penstock {
    Penstock::over(Shop::empty())
        .policy("resilience.toml", "[upstream]\nread = \"300ms\"\n")
        .env("PENSTOCK_UPSTREAM", format!("{scheme}://{}", upstream.address))
        .start()
        .await
}

#[tokio::test]
async fn a_slow_path_does_not_take_the_server_down() {
    for (scheme, upstream) in [("http", Upstream::http1().await), ("h2c", Upstream::h2c().await)] {
        let penstock = impatient(scheme, &upstream).await;
        for _ in 0..3 {
            penstock.get("/sleep/3000").await.expect(504).problem();
        }
        penstock.get("/page").await.expect(200);
    }
}

#[tokio::test]
async fn a_client_that_stalls_its_upload_is_told_so_and_harms_nobody() {
    for (scheme, upstream) in [("http", Upstream::http1().await), ("h2c", Upstream::h2c().await)] {
        let penstock = impatient(scheme, &upstream).await;
        for _ in 0..3 {
            let mut connection = penstock.raw().await;
            connection
                .send("POST /upload HTTP/1.1\r\nHost: s\r\nContent-Length: 10\r\n\r\nhalf")
                .await;
            let reply = connection.reply().await.unwrap();
            assert_eq!(reply.status, 408, "{scheme}: {}", reply.text());
            assert!(reply.text().contains("slow-body"), "{scheme}: {}", reply.text());
        }
        penstock.get("/page").await.expect(200);
        let status = penstock.status().await;
        assert_eq!(status["upstream"][0]["last_error"], "", "{scheme}: {status:#}");
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_an_answer() {
    for (scheme, upstream) in [("http", Upstream::http1().await), ("h2c", Upstream::h2c().await)] {
        let penstock = impatient(scheme, &upstream).await;
        let mut connection = penstock.raw().await;
        connection
            .send("POST /upload HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..8 {
            connection.send("5\r\npiece\r\n").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let reply = connection.send("0\r\n\r\n").await.reply().await.unwrap();
        assert_eq!(reply.status, 200, "{scheme}: {}", reply.text());
        assert!(reply.text().contains("\"body_bytes\":40"), "{scheme}: {}", reply.text());
    }
}

#[tokio::test]
async fn the_application_may_speak_http2() {
    let upstream = Upstream::h2c().await;
    let penstock = Penstock::over(Shop::empty())
        .env("PENSTOCK_UPSTREAM", format!("h2c://{}", upstream.address))
        .start()
        .await;
    for n in 0..20 {
        let request = penstock.request("POST", &format!("/page/{n}")).body("hello");
        let received = penstock.send(request).await.expect(200).json();
        assert_eq!(received["body_bytes"], 5);
    }
    let reply = penstock.get("/bytes/1000000").await.expect(200);
    assert_eq!(reply.body.len(), 1_000_000);
    let requests = upstream.requests();
    assert!(requests.iter().all(|seen| seen.version == http::Version::HTTP_2));
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
}

/// As Java's `HttpClient` begins every connection of its own.
#[tokio::test]
async fn an_offer_of_another_protocol_is_not_passed_on() {
    let (plain, h2c) = (Upstream::http1().await, Upstream::h2c().await);
    for (upstream, scheme) in [(&plain, "http"), (&h2c, "h2c")] {
        let penstock = Penstock::over(Shop::empty())
            .env("PENSTOCK_UPSTREAM", format!("{scheme}://{}", upstream.address))
            .start()
            .await;
        for (method, offer) in [("GET", "h2c"), ("POST", "h2c"), ("POST", "websocket")] {
            let request = penstock
                .request(method, "/page")
                .header("connection", "Upgrade, HTTP2-Settings")
                .header("upgrade", offer)
                .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA")
                .body("hello");
            let received = penstock.send(request).await.expect(200).json();
            assert_eq!(received["body_bytes"], 5, "{scheme} {method} {offer}");
            let seen = upstream.requests().pop().unwrap();
            assert!(seen.all("upgrade").is_empty(), "{scheme} {method} {offer}: {seen:?}");
            assert!(seen.all("connection").is_empty(), "{scheme} {method} {offer}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_request_http2_has_no_words_for_is_the_clients_fault() {
    let upstream = Upstream::h2c().await;
    let penstock = Penstock::over(Shop::empty())
        .env("PENSTOCK_UPSTREAM", format!("h2c://{}", upstream.address))
        .start()
        .await;
    for request in [
        "GET /page HTTP/1.0\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: [\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost:\r\n\r\n",
    ] {
        let reply = penstock.raw().await.send(request).await.reply().await.unwrap();
        assert_eq!(reply.status, 400, "{request:?}: {}", reply.text());
    }
    assert!(upstream.requests().is_empty());
    assert!(!penstock.logs().contains("internal-error"), "{}", penstock.logs());
}

#[tokio::test]
async fn idempotent_requests_are_sent_again_to_another_server() {
    let flaky = Upstream::flaky(usize::MAX).await;
    let good = Upstream::http1().await;
    let penstock = Penstock::before(&[flaky.address, good.address]).await;
    for n in 0..20 {
        penstock.get(&format!("/page/{n}")).await.expect(200);
    }
    assert!(flaky.connections() > 0, "half of them begin there");
    assert_eq!(good.requests().len(), 20);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let flaky = Upstream::flaky(usize::MAX).await;
    let good = Upstream::http1().await;
    let penstock = Penstock::before(&[flaky.address, good.address]).await;
    let (mut answered, mut refused) = (0, 0);
    for n in 0..20 {
        let request = penstock.request("POST", &format!("/order/{n}")).body("x");
        let reply = penstock.send(request).await;
        match reply.status {
            200 => answered += 1,
            502 => {
                reply.problem();
                refused += 1;
            }
            _ => panic!("{}", reply.describe()),
        }
    }
    assert_eq!(good.requests().len(), answered);
    assert!(refused > 0, "a connection that took the request and died");
}

#[tokio::test]
async fn a_dead_server_leaves_the_rotation_and_returns() {
    let steady = Upstream::http1().await;
    let moody = Upstream::http1().await;
    let address = moody.address;
    let penstock = Penstock::over(Shop::empty())
        .upstream(&[steady.address, address])
        .env("PENSTOCK_HEALTH_CHECK_INTERVAL_SECONDS", 1)
        .start()
        .await;
    for n in 0..20 {
        penstock.get(&format!("/page/{n}")).await.expect(200);
    }
    assert!(!moody.requests().is_empty(), "both take part");
    drop(moody);
    for n in 0..40 {
        penstock.get(&format!("/page/{n}")).await.expect(200);
    }
    let back = Upstream::http1_on(address).await;
    until("the server takes part again", Duration::from_secs(30), async || {
        penstock.get("/page").await.expect(200);
        (!back.requests().is_empty()).then_some(())
    })
    .await;
}

/// A probe of the silent server takes as long as an answer may take; the other is not kept waiting.
#[tokio::test]
async fn a_silent_server_does_not_hold_up_the_probes_of_others() {
    let silent = Upstream::silent().await;
    let address = free_address();
    let penstock = Penstock::over(Shop::empty())
        .upstream(&[silent.address, address])
        .env("PENSTOCK_HEALTH_CHECK_PATH", "/health")
        .env("PENSTOCK_HEALTH_CHECK_INTERVAL_SECONDS", 1)
        .start()
        .await;
    let healthy = async |server: usize| {
        penstock.status().await["upstream"][server]["healthy"].as_bool().unwrap()
    };
    until("it is known to be gone", Duration::from_secs(10), async || {
        (!healthy(1).await).then_some(())
    })
    .await;
    let back = Upstream::http1_on(address).await;
    let since = penstock_config::clock::now();
    until("it is back", Duration::from_secs(10), async || healthy(1).await.then_some(())).await;
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    drop(back);
}
