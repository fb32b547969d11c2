//! Paths that are not Penstock's go to the shop's application, both ways, as they come.

use futures_util::{SinkExt, StreamExt};
use penstock_tests::{Penstock, Shop, Upstream};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn without_an_application_other_paths_are_404() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    for path in ["/", "/cart", "/searching", "/recommend", "/products"] {
        penstock.get(path).await.expect(404).problem();
    }
}

#[tokio::test]
async fn requests_and_answers_pass_as_they_are() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let request = penstock
            .request(method, "/cart/items?a=1&b=%20%C3%A9&a=2")
            .header("x-own", "äö".as_bytes())
            .header("cookie", "session=1; other=2")
            .body("0123456789");
        let reply = penstock.send(request).await.expect(200);
        assert_eq!(reply.header("x-from"), "upstream");
        let received = reply.json();
        assert_eq!(received["method"], method);
        assert_eq!(received["target"], "/cart/items?a=1&b=%20%C3%A9&a=2");
        assert_eq!(received["body_bytes"], 10);
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(seen.headers["x-own"].as_bytes(), "äö".as_bytes());
        assert_eq!(seen.all("cookie").join("; "), "session=1; other=2");
        assert_eq!(seen.all("host"), [penstock.address.to_string()]);
    }
    for status in [204, 301, 304, 404, 418, 500, 503] {
        let reply = penstock.get(&format!("/status/{status}")).await;
        assert_eq!(reply.status, status, "the application's own answer");
        assert_eq!(reply.header("x-from"), "upstream");
    }
}

#[tokio::test]
async fn a_body_arrives_while_it_is_still_being_sent() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let mut connection = penstock.raw().await;
    connection
        .send("POST /echo HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await;
    // The echo of the first piece is back before the second is sent.
    let (head, first) = tokio::time::timeout(Duration::from_secs(10), async {
        let head = connection.head_reply().await.unwrap();
        (head, connection.read_exactly("5\r\nfirst\r\n".len()).await.unwrap())
    })
    .await
    .expect("the first piece comes back at once");
    assert_eq!(head.status, 200);
    assert_eq!(first, b"5\r\nfirst\r\n");
    connection.send("6\r\nsecond\r\n0\r\n\r\n").await;
    let rest = connection.read_exactly("6\r\nsecond\r\n0\r\n\r\n".len()).await.unwrap();
    assert_eq!(rest, b"6\r\nsecond\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_answer_arrives_while_it_is_still_being_made() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let started = penstock_config::clock::now();
    let answer = penstock.request("GET", "/drip").send().await.unwrap();
    let mut body = answer.bytes_stream();
    let first = body.next().await.unwrap().unwrap();
    let first_after = started.elapsed();
    let mut text = first.to_vec();
    while let Some(piece) = body.next().await {
        text.extend(piece.unwrap());
    }
    let all_after = started.elapsed();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 10);
    assert!(
        all_after >= first_after + Duration::from_millis(200),
        "first piece after {first_after:?}, all after {all_after:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_without_being_held() {
    const SIZE: usize = 64 << 20;
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    penstock.get("/warm").await.expect(200);
    let before = penstock.memory_kib("VmHWM");
    let body = vec![b'x'; SIZE];
    let reply = penstock.send(penstock.request("POST", "/upload").body(body)).await.expect(200);
    assert_eq!(reply.json()["body_bytes"], SIZE);
    let reply = penstock.get(&format!("/bytes/{SIZE}")).await.expect(200);
    assert_eq!(reply.body.len(), SIZE);
    let grown = penstock.memory_kib("VmHWM") - before;
    println!("64 MiB up and 64 MiB down: {grown} KiB more at most");
    assert!(grown < 24 << 10, "{grown} KiB");
}

#[tokio::test]
async fn websockets_pass() {
    let upstream = Upstream::websocket().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let url = format!("ws://{}/live?room=1", penstock.address);
    let (mut socket, answer) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(answer.status(), 101);
    for message in [
        Message::text("hello"),
        Message::text("🫖"),
        Message::binary(vec![7_u8; 300_000]),
        Message::text(""),
    ] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn an_upgrade_does_not_open_the_engines_paths() {
    let upstream = Upstream::websocket().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    for target in ["/popular?k=0", "/search", "/events"] {
        let mut connection = penstock.raw().await;
        connection
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ))
            .await;
        let status = connection.reply().await.unwrap().status;
        assert!((400..500).contains(&status), "{target}: {status}");
        assert_eq!(upstream.connections(), 0, "{target}");
    }
}

#[tokio::test]
async fn clients_may_speak_http2() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::over(Shop::demo()).upstream(&[upstream.address]).start().await;
    let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let calls = (0..20).map(|n| {
        let target = if n % 2 == 0 { "/popular".to_owned() } else { format!("/page/{n}") };
        http.get(penstock.url(&target)).send()
    });
    for answer in futures_util::future::join_all(calls).await {
        let answer = answer.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert_eq!(answer.status(), 200);
    }
    let body = vec![b'y'; 300_000];
    let answer = http.post(penstock.url("/upload")).body(body).send().await.unwrap();
    let received: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(received["body_bytes"], 300_000);
    let answer = http.get(penstock.url("/search?q=")).send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn cookies_of_http2_clients_arrive_in_one_line() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let crumbs = http.get(penstock.url("/page")).header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(crumbs.send().await.unwrap().status(), 200);
    assert_eq!(upstream.only_request().all("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn connections_to_the_application_are_kept() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    for n in 0..50 {
        penstock.get(&format!("/page/{n}")).await.expect(200);
    }
    assert_eq!(upstream.requests().len(), 50);
    assert!(upstream.connections() <= 4, "{} connections", upstream.connections());
}

#[tokio::test]
async fn a_trace_goes_on_through_the_proxy() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = "00f067aa0ba902b7";
    let request = penstock
        .request("GET", "/page")
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .header("tracestate", "vendor=1");
    let reply = penstock.send(request).await.expect(200);
    assert_eq!(reply.header("x-trace-id"), trace);
    let seen = upstream.requests().pop().unwrap();
    let forwarded = seen.all("traceparent").concat();
    let parts: Vec<&str> = forwarded.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[1], parts[3]), (4, "00", trace, "01"), "{forwarded}");
    assert_ne!(parts[2], parent, "the proxy is a span of its own");
    assert_eq!(seen.all("tracestate"), ["vendor=1"]);
    // What is no trace gets a new one; two requests never share it.
    let mut traces = BTreeSet::new();
    for bad in [
        "",
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
    ] {
        let request = penstock.request("GET", "/page").header("traceparent", bad);
        let reply = penstock.send(request).await.expect(200);
        let fresh = reply.header("x-trace-id").to_owned();
        assert!(fresh.len() == 32 && fresh.to_lowercase() != trace, "{bad}: {fresh}");
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(seen.all("traceparent").len(), 1, "{bad}");
        assert!(seen.all("traceparent")[0].contains(&fresh), "{bad}: {seen:?}");
        assert!(traces.insert(fresh), "{bad}");
    }
}

#[tokio::test]
async fn the_application_learns_who_asked() {
    let upstream = Upstream::http1().await;
    // The peer is nobody that is trusted: what it says of others is not passed on as true.
    let penstock = Penstock::before(&[upstream.address]).await;
    let forged = penstock
        .request("GET", "/page")
        .header("x-forwarded-for", "203.0.113.7, 10.0.0.1")
        .header("x-forwarded-proto", "https")
        .header("x-real-ip", "203.0.113.7");
    penstock.send(forged).await.expect(200);
    let seen = upstream.requests().pop().unwrap();
    let last = seen.all("x-forwarded-for").join(", ");
    assert_eq!(last.rsplit(", ").next(), Some("127.0.0.1"), "{seen:?}");
    assert_ne!(seen.all("x-real-ip"), ["203.0.113.7"], "{seen:?}");

    // A trusted peer is believed, and named after whom it speaks for.
    let penstock = Penstock::over(Shop::empty())
        .upstream(&[upstream.address])
        .env("PENSTOCK_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let told = penstock.request("GET", "/page").header("x-forwarded-for", "203.0.113.7");
    penstock.send(told).await.expect(200);
    let seen = upstream.requests().pop().unwrap();
    assert_eq!(seen.all("x-forwarded-for").join(", "), "203.0.113.7, 127.0.0.1");
}
