//! Input nobody should send: a 400 with a sentence that helps, or a sensible answer. Never a 500.

use penstock_tests::{Penstock, Raw, RawReply, Shop, urlencode};
use std::time::Duration;

/// What a row of the table allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// 400 with a sentence, and this parameter named as the one at fault.
    Refused(&'static str),
    /// 200 with a list, perhaps empty.
    List,
    /// 200 with `[]`.
    Nothing,
    /// One of the first two; both can be defended.
    RefusedOrList,
    /// This status as a problem.
    Status(u16),
}

use Expected::{List, Nothing, Refused, RefusedOrList, Status};

fn check(target: &str, reply: &RawReply, expected: Expected) {
    let about = format!("{target:.120}: {} {:?}", reply.status, reply.text());
    let problem = || {
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{about}");
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.split(' ').count() >= 3, "no sentence: {about}");
        problem["parameter"].as_str().unwrap_or_default().to_owned()
    };
    let list = || -> Vec<serde_json::Value> {
        assert_eq!(reply.status, 200, "{about}");
        serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("no list: {about}"))
    };
    match expected {
        Refused(parameter) => {
            assert_eq!(reply.status, 400, "{about}");
            assert_eq!(problem(), parameter, "{about}");
        }
        Nothing => assert!(list().is_empty(), "{about}"),
        RefusedOrList if reply.status == 400 => drop(problem()),
        List | RefusedOrList => drop(list()),
        Status(status) => {
            assert_eq!(reply.status, status, "{about}");
            problem();
        }
    }
}

#[tokio::test]
async fn queries_nobody_should_send() {
    let penstock = Penstock::demo().await;
    let before = penstock.shop.count("SELECT count(*) FROM products");
    let long = "mug%20".repeat(10_000 / 4);
    let one_word = "m".repeat(10_000);
    let many_words = "a%20b%20".repeat(60);
    let emoji_wall = urlencode(&"🫖".repeat(500));
    let long_q = format!("/search?q={long}");
    let long_word = format!("/search?q={one_word}");
    let wall = format!("/search?q={emoji_wall}");
    let words = format!("/search?q={many_words}");
    let long_user = format!("/search?q=mug&user_id={one_word}");
    let long_recommend = format!("/recommend/{one_word}");
    let long_category = format!("/popular?category={one_word}");
    let mut rows: Vec<(String, Expected)> = [
        ("/search", Refused("q")),
        ("/search?", Refused("q")),
        ("/search?q", Refused("q")),
        ("/search?q=", Refused("q")),
        ("/search?q=%20%20%09%0a", Refused("q")),
        ("/search?q=+++", Refused("q")),
        ("/search?q=%E3%80%80%C2%A0", Refused("q")),
        (long_q.as_str(), Refused("q")),
        (long_word.as_str(), Refused("q")),
        (wall.as_str(), List),
        (words.as_str(), List),
        ("/search?q=%F0%9F%AB%96", List),
        ("/search?q=caf%C3%A9%20%E2%98%95", List),
        ("/search?q=%E6%9D%AF%E5%AD%90", List),
        ("/search?q=%D9%83%D9%88%D8%A8", List),
        ("/search?q=e%CC%81%CC%81%CC%81%CC%81", List),
        ("/search?q=%E2%80%AE%E2%80%8B%E2%80%8B", RefusedOrList),
        ("/search?q=%ff%fe", Refused("q")),
        ("/search?q=mug%c3%28", Refused("q")),
        ("/search?q=%ed%a0%80", Refused("q")),
        ("/search?q=%zz", RefusedOrList),
        ("/search?q=100%", RefusedOrList),
        ("/search?q=%", RefusedOrList),
        ("/search?q=%00", RefusedOrList),
        ("/search?q=mug%00mug", RefusedOrList),
        ("/search?q=%1b%5b31m", RefusedOrList),
        ("/search?q=mug&user_id=%ff", Refused("user_id")),
        (long_user.as_str(), RefusedOrList),
        (long_recommend.as_str(), RefusedOrList),
        (long_category.as_str(), RefusedOrList),
        ("/search?q=mug&q=cup", RefusedOrList),
        ("/search?q=mug&k=5&k=6", RefusedOrList),
        ("/search?q=mug&&&=&;;", RefusedOrList),
        ("/search?q=mug&no_such_parameter=1", RefusedOrList),
        ("/search?q=mug&category=no%20such", Nothing),
        ("/search?q=mug&brand=no%20such", Nothing),
        ("/search?q=mug&category=", RefusedOrList),
        ("/search?q=mug&category=%20%3E%20%3E%20", RefusedOrList),
        ("/search?q=mug&category=%ff", Refused("category")),
        ("/search?q=mug&min_price=10&max_price=5", Refused("min_price")),
        ("/search?q=mug&min_price=NaN", Refused("min_price")),
        ("/search?q=mug&max_price=inf", Refused("max_price")),
        ("/search?q=mug&max_price=-inf", Refused("max_price")),
        ("/search?q=mug&min_price=cheap", Refused("min_price")),
        ("/search?q=mug&min_price=1e999", Refused("min_price")),
        ("/search?q=mug&min_price=", RefusedOrList),
        ("/search?q=mug&max_price=1e308", List),
        ("/search?q=mug&max_price=0", List),
        ("/search?q=mug&max_price=-1", RefusedOrList),
        ("/search?q=mug&fields=no_such", Refused("fields")),
        ("/search?q=mug&k=", RefusedOrList),
        ("/search?q=mug&fields=", RefusedOrList),
        ("/search?q=mug&fields=name,,name", RefusedOrList),
        ("/similar/%ff", Status(400)),
        ("/similar/", Status(404)),
        ("/products/%00", Status(404)),
        ("/recommend/%00", RefusedOrList),
        ("/recommend/%2e%2e%2f%2e%2e%2fetc%2fpasswd", List),
        ("/recommend/%F0%9F%AB%96", List),
        ("/search/explain?q=mug", Refused("product_id")),
        ("/search/explain?product_id=x", Refused("q")),
        ("/search/explain?q=mug&product_id=no-such", Status(404)),
    ]
    .map(|(target, expected)| (target.to_owned(), expected))
    .into();
    for k in ["0", "101", "abc", "-1", "1e9", "10.0", "%ff", "99999999999999999999", "+5x"] {
        for path in ["/search?q=mug&", "/recommend/u?", "/popular?"] {
            rows.push((format!("{path}k={k}"), Refused("k")));
        }
    }
    for syntax in [
        "name:* AND (",
        "\"",
        "\"unclosed phrase",
        "~",
        "^",
        "mug^1000",
        "mug~9",
        "\\",
        "*",
        "/.*/",
        "[a TO z]",
        "{a TO *}",
        "name:[* TO *]",
        "+mug -mug",
        "NOT NOT NOT",
        "AND OR NOT",
        "a OR (b AND (c OR (d",
        "IN [a b c]",
        "' OR 1=1; DROP TABLE products; --",
        "'); DELETE FROM events; --",
        "mug' UNION SELECT * FROM users --",
        "{{7*7}}${7*7}<script>alert(1)</script>",
        "%s%n%d",
        "../../etc/passwd",
        "\r\nX-Injected: yes\r\n\r\n",
        "a\u{0}b",
        "mug\u{202e}gum",
    ] {
        let expected = if syntax.contains('\0') { RefusedOrList } else { List };
        let encoded = urlencode(syntax);
        rows.push((format!("/search?q={encoded}"), expected));
        rows.push((format!("/search?q=mug&user_id={encoded}"), expected));
        rows.push((format!("/search?q=mug&brand={encoded}"), expected));
        rows.push((format!("/recommend/{encoded}"), expected));
    }
    for (target, expected) in &rows {
        let reply = penstock.raw_get(target).await;
        let reply = reply.unwrap_or_else(|| panic!("closed without an answer: {target:.200}"));
        assert_eq!(reply.header("x-injected"), None, "{target}");
        check(target, &reply, *expected);
    }
    assert_eq!(penstock.shop.count("SELECT count(*) FROM products"), before);
    penstock.ops("/readyz").await.expect(200);
}

#[tokio::test]
async fn raw_bytes_in_a_target_are_never_a_500() {
    let penstock = Penstock::demo().await;
    for target in [
        &b"/search?q=\xff\xfe"[..],
        b"/search?q=caf\xc3\xa9",
        b"/search?q=\x01\x02",
        b"/search?q=a\x00b",
        b"/search?q=<>\"{}|\\^`",
        b"/\xff",
        b"*",
        b"",
        b"?",
        b"//",
        b"search?q=mug",
        b"/search?q=mug#fragment",
        b"http://[::1/search?q=mug",
        b"/search?q=mug HTTP/1.1\r\nX: y",
    ] {
        let reply = penstock.raw_get(target).await;
        let status = reply.as_ref().map_or(400, |reply| reply.status);
        assert!(status < 500, "{:?}: {reply:?}", String::from_utf8_lossy(target));
    }
}

#[tokio::test]
async fn methods_an_endpoint_does_not_know_are_405() {
    let penstock = Penstock::demo().await;
    for (method, target, allowed) in [
        ("POST", "/search?q=mug", "GET"),
        ("PUT", "/recommend/u", "GET"),
        ("DELETE", "/products/p", "GET"),
        ("PATCH", "/popular", "GET"),
        ("BREW", "/search?q=mug", "GET"),
        ("GET", "/events", "POST"),
        ("DELETE", "/events", "POST"),
    ] {
        let mut connection = penstock.raw().await;
        let request = format!("{method} {target} HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n");
        let reply = connection.send(request).await.reply().await.unwrap();
        check(&format!("{method} {target}"), &reply, Status(405));
        let allow = reply.header("allow").unwrap_or_default();
        assert!(allow.contains(allowed), "{method} {target}: {allow:?}");
    }
    for request in [
        "CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n\r\n",
        "TRACE /search?q=mug HTTP/1.1\r\nHost: s\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: s\r\n\r\n",
        "OPTIONS /search HTTP/1.1\r\nHost: s\r\n\r\n",
    ] {
        let mut connection = penstock.raw().await;
        let reply = connection.send(request).await.finish().await.reply().await;
        assert!(reply.as_ref().is_none_or(|reply| reply.status < 500), "{request}: {reply:?}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let penstock = Penstock::demo().await;
    let mut connection = penstock.raw().await;
    for _ in 0..2 {
        let request = "HEAD /popular HTTP/1.1\r\nHost: s\r\n\r\n";
        let reply = connection.send(request).await.head_reply().await.unwrap();
        assert!(matches!(reply.status, 200 | 405), "{reply:?}");
        if reply.status == 405 {
            return;
        }
    }
    // Nothing of a body came between: the next answer on the same connection is in step.
    let request = "GET /health HTTP/1.1\r\nHost: s\r\n\r\n";
    assert_eq!(connection.send(request).await.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn refusals_keep_the_connection() {
    let penstock = Penstock::demo().await;
    let mut connection = penstock.raw().await;
    for (request, status) in [
        ("GET /search HTTP/1.1\r\nHost: s\r\n\r\n", 400),
        ("GET /search?q=mug&k=0 HTTP/1.1\r\nHost: s\r\n\r\n", 400),
        ("GET /nowhere HTTP/1.1\r\nHost: s\r\n\r\n", 404),
        ("GET /products/none HTTP/1.1\r\nHost: s\r\n\r\n", 404),
        ("GET /events HTTP/1.1\r\nHost: s\r\n\r\n", 405),
        (
            "POST /events HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
        ("GET /popular HTTP/1.1\r\nHost: s\r\n\r\n", 200),
    ] {
        let reply = connection.send(request).await.reply().await;
        let reply = reply.unwrap_or_else(|| panic!("closed before {request}"));
        assert_eq!(reply.status, status, "{request}");
        assert_ne!(reply.header("connection"), Some("close"), "{request}");
    }
}

#[tokio::test]
async fn headers_too_large_are_refused_and_slow_ones_cut_off() {
    let penstock =
        Penstock::over(Shop::empty()).env("PENSTOCK_HEADER_TIMEOUT_SECONDS", 1).start().await;
    let huge = "x".repeat(2 << 20);
    for request in [
        format!("GET /popular HTTP/1.1\r\nHost: s\r\nX-Huge: {huge}\r\n\r\n"),
        format!("GET /{huge} HTTP/1.1\r\nHost: s\r\n\r\n"),
        format!("GET /popular HTTP/1.1\r\nHost: s\r\n{}\r\n", "X: y\r\n".repeat(50_000)),
    ] {
        let mut connection = penstock.raw().await;
        connection.send(&request).await;
        let (replies, closed) = connection.replies(Duration::from_secs(15)).await;
        assert!(closed, "{request:.60}");
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{statuses:?}");
    }
    // Slowloris: a byte of a header now and then.
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = Raw::connect(penstock.address).await;
        connection.send("GET /popular HTTP/1.1\r\nHost: s\r\nX-Slow: ").await;
        connections.push(tokio::spawn(async move {
            let started = penstock_config::clock::now();
            while started.elapsed() < Duration::from_secs(20) {
                connection.send("x").await;
                let (replies, closed) = connection.replies(Duration::from_millis(500)).await;
                if closed || !replies.is_empty() {
                    return true;
                }
            }
            false
        }));
    }
    // Others are served meanwhile.
    penstock.items("/popular").await;
    for connection in connections {
        assert!(connection.await.unwrap(), "a header may take 20 s");
    }
}
