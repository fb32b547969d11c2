//! The tools of these tests do what they say, without a proxy between them.

use penstock_tests::{Raw, Upstream};
use std::time::Duration;

#[tokio::test]
async fn applications_behave_as_named() {
    let upstream = Upstream::http1().await;
    let mut connection = Raw::connect(upstream.address).await;
    for (target, status, bytes) in [
        ("/bytes/200000", 200, Some(200_000)),
        ("/status/404", 404, None),
        ("/sleep/20", 200, None),
        ("/drip", 200, Some(80)),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: s\r\n\r\n");
        let reply = connection.send(request).await.reply().await.unwrap();
        assert_eq!(reply.status, status, "{target}");
        if let Some(bytes) = bytes {
            assert_eq!(reply.body.len(), bytes, "{target}");
        }
    }
    let body = "POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\n\r\nhello";
    let reply = connection.send(body).await.reply().await.unwrap();
    assert_eq!(reply.body, b"hello");
    assert_eq!(upstream.requests().len(), 5);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn flaky_applications_close_as_often_as_told() {
    let upstream = Upstream::flaky(2).await;
    for expected in [None, None, Some(200), Some(200)] {
        let mut connection = Raw::connect(upstream.address).await;
        let request = "GET / HTTP/1.1\r\nHost: s\r\n\r\n";
        let reply = connection.send(request).await.reply().await;
        assert_eq!(reply.map(|reply| reply.status), expected);
    }
}

#[tokio::test]
async fn silent_applications_are_silent_and_dropped_ones_gone() {
    let upstream = Upstream::silent().await;
    let mut connection = Raw::connect(upstream.address).await;
    connection.send("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    let (replies, closed) = connection.replies(Duration::from_millis(200)).await;
    assert!(replies.is_empty() && !closed);
    let address = upstream.address;
    drop(upstream);
    let (_, closed) = connection.replies(Duration::from_secs(5)).await;
    assert!(closed);
    penstock_tests::wait::until_true("the port is free", Duration::from_secs(5), async || {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn http2_applications_speak_http2() {
    let upstream = Upstream::h2c().await;
    let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/page?x=1", upstream.address);
    let answer = http.post(url).body("hello").send().await.unwrap();
    let received: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(received["body_bytes"], 5);
    assert_eq!(upstream.only_request().version, http::Version::HTTP_2);
}
