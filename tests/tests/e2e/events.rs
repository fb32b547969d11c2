//! `POST /events`: acknowledged means durable, the same id counts once, bad ones are refused.

use penstock_tests::{Penstock, Shop};
use serde_json::{Value, json};

fn event(id: &str) -> Value {
    json!({"user_id": "u", "product_id": "p", "event_type": "view", "event_id": id})
}

fn stored(penstock: &Penstock, id: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM events WHERE event_id = '{id}'");
    penstock.shop.count(&sql)
}

#[tokio::test]
async fn single_events_and_arrays_are_accepted() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    for (body, ids) in [
        (event("one"), vec!["one"]),
        (json!([event("two"), event("three")]), vec!["two", "three"]),
        (
            json!({"user_id": "u", "product_id": "p", "event_type": "purchase",
                   "timestamp": "2026-11-01T10:00:00Z", "source": "app", "event_id": "four"}),
            vec!["four"],
        ),
    ] {
        let reply = penstock.post("/events", &body).await;
        let reply = reply.expect(202);
        for id in ids {
            assert!(reply.json().to_string().contains(&format!("{id:?}")), "{}", reply.describe());
            assert_eq!(stored(&penstock, id), 1, "{id}");
        }
    }
}

#[tokio::test]
async fn an_event_without_an_id_gets_one() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    let body = json!({"user_id": "u", "product_id": "p", "event_type": "view"});
    let first = penstock.post("/events", &body).await.expect(202).body;
    let second = penstock.post("/events", &body).await.expect(202).body;
    assert_ne!(first, second);
    assert_eq!(penstock.shop.count("SELECT count(*) FROM events"), 2);
}

#[tokio::test]
async fn the_same_id_counts_once() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    for body in [event("same"), event("same"), json!([event("same"), event("same")])] {
        penstock.post("/events", &body).await.expect(202);
    }
    assert_eq!(stored(&penstock, "same"), 1);
}

#[tokio::test]
async fn bad_events_are_refused_whole_with_a_sentence() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    let without = |key: &str| {
        let mut event = event("x");
        event.as_object_mut().unwrap().remove(key);
        event
    };
    let with = |key: &str, value: Value| {
        let mut event = event("x");
        event[key] = value;
        event
    };
    let long = "x".repeat(1_000);
    for body in [
        json!(null),
        json!("view"),
        json!(7),
        json!({}),
        json!([]),
        json!([[]]),
        json!([event("good"), {}]),
        json!([event("good"), null]),
        without("user_id"),
        without("product_id"),
        without("event_type"),
        with("event_type", json!("stare")),
        with("event_type", json!(1)),
        with("user_id", json!("")),
        with("user_id", json!(5)),
        with("user_id", json!(long)),
        with("product_id", json!("")),
        with("product_id", json!(null)),
        with("event_id", json!("")),
        with("event_id", json!(long)),
        with("timestamp", json!("yesterday")),
        with("timestamp", json!("2026-13-45T99:00:00Z")),
    ] {
        let reply = penstock.post("/events", &body).await;
        assert!((400..500).contains(&reply.status), "{body}: {}", reply.describe());
        reply.problem();
    }
    assert_eq!(penstock.shop.count("SELECT count(*) FROM events"), 0);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    let good = event("good").to_string();
    for (content_type, body, expected) in [
        ("application/json", "", 400),
        ("application/json", "{", 400),
        ("application/json", "{\"user_id\": \"u\",}", 400),
        ("application/json", "\u{feff}[", 400),
        ("application/json", "[[[[[[", 400),
        ("text/plain", good.as_str(), 415),
        ("application/x-www-form-urlencoded", "user_id=u", 415),
        ("application/json; charset=utf-8", good.as_str(), 202),
    ] {
        let request = penstock
            .request("POST", "/events")
            .header("content-type", content_type)
            .body(body.to_owned());
        let reply = penstock.send(request).await.expect(expected);
        if expected != 202 {
            reply.problem();
        }
    }
    let deep = "[".repeat(100_000);
    let request = penstock.request("POST", "/events").header("content-type", "application/json");
    penstock.send(request.body(deep)).await.expect(400).problem();
    let bytes: Vec<u8> = b"{\"user_id\": \"\xff\xfe\"}".to_vec();
    let request = penstock.request("POST", "/events").header("content-type", "application/json");
    penstock.send(request.body(bytes)).await.expect(400).problem();
}

#[tokio::test]
async fn a_body_too_large_is_413_and_the_proxy_goes_on() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    let events: Vec<Value> = (0..100_000).map(|n| event(&format!("many-{n}"))).collect();
    let body = json!(events).to_string();
    // Sent by hand: a client library may see the answer only after the whole body went out.
    let mut connection = penstock.raw().await;
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head).await;
    let reply = connection.reply().await.unwrap();
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    // Without a length it is found out on the way.
    let mut connection = penstock.raw().await;
    connection
        .send("POST /events HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
        .await;
    assert_eq!(connection.reply().await.unwrap().status, 413);
    penstock.post("/events", &event("after")).await.expect(202);
    assert_eq!(penstock.shop.count("SELECT count(*) FROM events"), 1);
}

#[tokio::test]
async fn acknowledged_events_survive_a_kill() {
    let mut penstock = Penstock::demo().await;
    for round in 0..5 {
        let ids: Vec<String> = (0..20).map(|n| format!("kept-{round}-{n}")).collect();
        let events: Vec<Value> = ids.iter().map(|id| event(id)).collect();
        penstock.post("/events", &json!(events)).await.expect(202);
        penstock.kill();
        penstock = penstock.setup().start().await;
        for id in &ids {
            assert_eq!(stored(&penstock, id), 1, "{id}");
        }
    }
}

#[tokio::test]
async fn events_under_way_when_killed_are_whole_or_absent() {
    let mut penstock = Penstock::demo().await;
    let acknowledged = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (url, acknowledged) = (penstock.url("/events"), acknowledged.clone());
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                for number in 0.. {
                    let id = format!("k-{client}-{number}");
                    match http.post(&url).json(&event(&id)).send().await {
                        Ok(answer) if answer.status() == 202 => {
                            acknowledged.lock().unwrap().push(id);
                        }
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
            })
        })
        .collect();
    penstock_tests::wait::until_true(
        "100 events",
        std::time::Duration::from_secs(30),
        async || acknowledged.lock().unwrap().len() >= 100,
    )
    .await;
    penstock.kill();
    for client in clients {
        client.await.unwrap();
    }
    penstock = penstock.setup().start().await;
    for id in acknowledged.lock().unwrap().iter() {
        assert_eq!(stored(&penstock, id), 1, "{id}");
    }
}
