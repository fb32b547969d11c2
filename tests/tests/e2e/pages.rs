//! Answers of the application that are kept: what may be, for whom, and for how long.

use penstock_tests::penstock::free_address;
use penstock_tests::upstream::Page;
use penstock_tests::{Penstock, Reply, Shop, Upstream, until};
use std::time::Duration;

/// Everything below `/p`.
const RULE: &str = "[pages.paths.p]\npath = \"/p/*\"\n";

async fn keeping(rule: &str, upstream: &Upstream) -> Penstock {
    Penstock::over(Shop::empty())
        .policy("cache.toml", rule)
        .upstream(&[upstream.address])
        .start()
        .await
}

/// The page as a client gets it: where it came from, and its body.
async fn got(penstock: &Penstock, target: &str) -> (String, String) {
    got_with(penstock, target, &[]).await
}

async fn got_with(penstock: &Penstock, target: &str, headers: &[(&str, &str)]) -> (String, String) {
    let reply = asked(penstock, "GET", target, headers).await.expect(200);
    (reply.header("x-cache").to_owned(), reply.text().to_owned())
}

async fn asked(penstock: &Penstock, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = penstock.request(method, target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    penstock.send(request).await
}

/// Ends an application, and waits until its port is free.
async fn gone(upstream: Upstream) {
    let address = upstream.address;
    drop(upstream);
    until("the port is free", Duration::from_secs(5), async || {
        tokio::net::TcpListener::bind(address).await.ok().map(drop)
    })
    .await;
}

fn from(place: &str, body: &str) -> (String, String) {
    (place.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_page_is_fetched_once_while_it_is_good() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=60", "one").with("age", 5).with("x-own", 1));
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "one"));
    upstream.put("/p/a", Page::of("max-age=60", "two"));
    for _ in 0..3 {
        let reply = penstock.get("/p/a").await.expect(200);
        assert_eq!((reply.header("x-cache"), reply.text()), ("hit-l1", "one"));
        let age: u64 = reply.header("age").parse().unwrap();
        assert!((5..30).contains(&age), "{age}");
        assert_eq!(reply.header("x-own"), "1");
        assert_eq!(reply.header("content-length"), "3");
    }
    assert_eq!(upstream.asked_for("/p/a"), 1);
    // What no rule names is passed through, and nothing is said of a cache.
    upstream.put("/q", Page::of("max-age=60", "q"));
    for _ in 0..2 {
        let reply = penstock.get("/q").await.expect(200);
        assert!(!reply.headers.contains_key("x-cache"));
    }
    assert_eq!(upstream.asked_for("/q"), 2);
    let metrics = penstock.ops("/metrics").await.expect(200);
    for line in [
        r#"cache_hits_total{cache_layer="l1",cache_type="pages"} 3"#,
        r#"cache_misses_total{cache_layer="l1",cache_type="pages"} 1"#,
        r#"cache_entries{cache_layer="l1",cache_type="pages"} 1"#,
    ] {
        assert!(metrics.text().contains(line), "{line}\n{}", metrics.text());
    }
}

#[tokio::test]
async fn what_names_one_client_is_not_kept() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::over(Shop::empty())
        .policy("cache.toml", RULE)
        .policy(
            "limits.toml",
            "[address.passthrough]\nenabled = true\nper_minute = 1000\nburst = 1200\n",
        )
        .upstream(&[upstream.address])
        .start()
        .await;
    upstream.put("/p/a", Page::of("max-age=60", "one").with("x-trace-id", "theirs"));
    let first = penstock.get("/p/a").await.expect(200);
    let second = penstock.get("/p/a").await.expect(200);
    assert_eq!(second.header("x-cache"), "hit-l1");
    assert_ne!(first.header("x-trace-id"), second.header("x-trace-id"));
    let left = |reply: &Reply| reply.header("x-ratelimit-remaining").parse::<u32>().unwrap();
    assert_eq!(left(&first), left(&second) + 1, "a page that is kept is no way past the limits");
}

#[tokio::test]
async fn a_page_that_is_over_is_asked_about_and_goes_on() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    let page = |control: &str, body: &str| {
        Page::of(control, body)
            .with("etag", "\"1\"")
            .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    };
    upstream.put("/p/a", page("max-age=0", "one"));
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "one"));
    // 304: the body that is kept is served, and from then on it is good for a minute.
    upstream.put("/p/a", page("max-age=60", "never seen").with("x-new", 1));
    assert_eq!(got(&penstock, "/p/a").await, from("hit-l1", "one"));
    let asked = upstream.requests().pop().unwrap();
    assert_eq!(asked.all("if-none-match"), ["\"1\""]);
    assert_eq!(asked.all("if-modified-since"), ["Mon, 01 Jan 2024 00:00:00 GMT"]);
    let again = penstock.get("/p/a").await.expect(200);
    assert_eq!((again.text(), again.header("x-new")), ("one", "1"));
    assert_eq!(upstream.asked_for("/p/a"), 2);
    // Another page: it takes the place.
    upstream.put("/p/b", page("max-age=0", "one"));
    assert_eq!(got(&penstock, "/p/b").await, from("miss", "one"));
    upstream.put("/p/b", Page::of("max-age=60", "two").with("etag", "\"2\""));
    assert_eq!(got(&penstock, "/p/b").await, from("miss", "two"));
    assert_eq!(got(&penstock, "/p/b").await, from("hit-l1", "two"));
    // A life that ends while we look.
    upstream.put("/p/c", Page::of("max-age=1", "one"));
    assert_eq!(got(&penstock, "/p/c").await, from("miss", "one"));
    upstream.put("/p/c", Page::of("max-age=60", "two"));
    until("the first page is over", Duration::from_secs(10), async || {
        (got(&penstock, "/p/c").await.1 == "two").then_some(())
    })
    .await;
}

#[tokio::test]
async fn clients_that_have_a_page_get_304() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    let date = "Mon, 01 Jan 2024 00:00:00 GMT";
    upstream.put(
        "/p/a",
        Page::of("max-age=60", "one").with("etag", "\"1\"").with("last-modified", date),
    );
    // The first one fills: what is kept is the page and not its 304.
    let reply = asked(&penstock, "GET", "/p/a", &[("if-none-match", "\"1\"")]).await.expect(304);
    assert!(reply.body.is_empty());
    assert_eq!(got(&penstock, "/p/a").await, from("hit-l1", "one"));
    for (name, value, status) in [
        ("if-none-match", "\"1\"", 304),
        ("if-none-match", "W/\"1\"", 304),
        ("if-none-match", "\"0\", \"1\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"2\"", 200),
        ("if-modified-since", date, 304),
        ("if-modified-since", "Sun, 31 Dec 2023 00:00:00 GMT", 200),
        ("if-modified-since", "nonsense", 200),
    ] {
        let reply = asked(&penstock, "GET", "/p/a", &[(name, value)]).await;
        assert_eq!((reply.status, reply.header("etag")), (status, "\"1\""), "{name}: {value}");
        assert_eq!(reply.header("x-cache"), "hit-l1");
    }
    assert_eq!(upstream.asked_for("/p/a"), 1);
}

#[tokio::test]
async fn heads_and_parts_come_from_the_whole() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=60", "0123456789").with("etag", "\"1\""));
    // Of what is not kept they are the application's business.
    let reply = asked(&penstock, "HEAD", "/p/a", &[]).await.expect(200);
    assert_eq!(reply.header("x-cache"), "bypass");
    let reply = asked(&penstock, "GET", "/p/a", &[("range", "bytes=0-1")]).await.expect(200);
    assert_eq!((reply.header("x-cache"), reply.text()), ("bypass", "0123456789"));
    assert_eq!(upstream.requests().pop().unwrap().all("range"), ["bytes=0-1"]);
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "0123456789"));
    let reply = asked(&penstock, "HEAD", "/p/a", &[]).await.expect(200);
    assert_eq!((reply.header("x-cache"), reply.header("content-length")), ("hit-l1", "10"));
    assert!(reply.body.is_empty());
    for (range, status, body) in [
        ("bytes=2-4", 206, "234"),
        ("bytes=8-", 206, "89"),
        ("bytes=-3", 206, "789"),
        ("bytes=5-99", 206, "56789"),
        ("bytes=10-", 416, ""),
        ("bytes=0-1,4-5", 200, "0123456789"),
        ("lines=1-2", 200, "0123456789"),
    ] {
        let reply = asked(&penstock, "GET", "/p/a", &[("range", range)]).await;
        assert_eq!((reply.status, reply.text()), (status, body), "{range}");
    }
    let stale_part = [("range", "bytes=2-4"), ("if-range", "\"0\"")];
    assert_eq!(asked(&penstock, "GET", "/p/a", &stale_part).await.status, 200);
    assert_eq!(upstream.asked_for("/p/a"), 3);
}

#[tokio::test]
async fn variants_are_kept_apart() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put(
        "/p/a",
        Page::of("max-age=60", "in ").with("vary", "Accept-Language").echoing("accept-language"),
    );
    for round in 0..3 {
        for language in ["de", "en", "fr"] {
            let place = if round == 0 { "miss" } else { "hit-l1" };
            let got = got_with(&penstock, "/p/a", &[("accept-language", language)]).await;
            assert_eq!(got, from(place, &format!("in {language}")));
        }
    }
    assert_eq!(upstream.asked_for("/p/a"), 3);
    upstream.put("/p/b", Page::of("max-age=60", "all").with("vary", "*"));
    for _ in 0..2 {
        assert_eq!(got(&penstock, "/p/b").await, from("bypass", "all"));
    }
    assert_eq!(upstream.asked_for("/p/b"), 2);
    // One change of the page is a change of all its variants.
    asked(&penstock, "POST", "/p/a", &[]).await.expect(200);
    for language in ["de", "en", "fr"] {
        let got = got_with(&penstock, "/p/a", &[("accept-language", language)]).await;
        assert_eq!(got.0, "miss", "{language}");
    }
}

#[tokio::test]
async fn what_is_for_one_client_is_never_kept() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(&format!("{RULE}ttl = \"1m\"\n"), &upstream).await;
    for (path, page) in [
        ("/p/private", Page::of("private, max-age=60", "p")),
        ("/p/no-store", Page::of("no-store, max-age=60", "p")),
        ("/p/cookie", Page::of("public, max-age=60", "p").with("set-cookie", "session=1")),
        ("/p/part", Page::of("max-age=60", "p").with("content-range", "bytes 0-0/9")),
        ("/p/by-user", Page::of("max-age=60", "p").with("vary", "Authorization")),
        ("/p/two", Page::of("max-age=60", "p").with("cache-control", "private")),
    ] {
        upstream.put(path, page);
        for _ in 0..3 {
            assert_eq!(got(&penstock, path).await.0, "bypass", "{path}");
        }
        assert_eq!(upstream.asked_for(path), 3, "{path}");
    }
    for status in [206, 401, 403, 429, 500, 503] {
        let path = format!("/p/status/{status}");
        upstream.put(&path, Page::of("max-age=60", "p").status(status));
        for _ in 0..2 {
            assert_eq!(penstock.get(&path).await.status, status);
        }
        assert_eq!(upstream.asked_for(&path), 2, "{status}");
    }
    // 404 says nothing of its life: the rule does.
    upstream.put("/p/gone", Page::of("", "none").status(404));
    for place in ["miss", "hit-l1"] {
        assert_eq!(penstock.get("/p/gone").await.expect(404).header("x-cache"), place);
    }
    // Whoever shows who they are gets no page of everybody's, and leaves none.
    upstream.put("/p/a", Page::of("public, max-age=60", "for ").echoing("authorization"));
    for (name, value) in
        [("authorization", "Basic eA=="), ("x-api-key", "theirs"), ("cookie", "session=1")]
    {
        for _ in 0..2 {
            assert_eq!(got_with(&penstock, "/p/a", &[(name, value)]).await.0, "bypass", "{name}");
        }
    }
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "for "));
    let authorized = got_with(&penstock, "/p/a", &[("authorization", "Basic eA==")]).await;
    assert_eq!(authorized, from("bypass", "for Basic eA=="));
    let asked_not_to = got_with(&penstock, "/p/b", &[("cache-control", "no-store")]).await;
    assert_eq!(asked_not_to.0, "bypass");
}

#[tokio::test]
async fn what_is_not_in_the_key_does_not_reach_the_application() {
    let upstream = Upstream::http1().await;
    let rule = "[pages.paths.p]\npath = \"/p/*\"\ncookies = \"ignore\"\nignore_query = [\"utm\"]\n";
    let penstock = keeping(rule, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=60", "hello ").echoing("cookie"));
    let cookie = [("cookie", "session=1")];
    assert_eq!(got_with(&penstock, "/p/a?utm=x&b=1", &cookie).await, from("miss", "hello "));
    assert_eq!(got(&penstock, "/p/a?b=1").await, from("hit-l1", "hello "));
    assert_eq!(got(&penstock, "/p/a?b=2").await, from("miss", "hello "));
    let seen = &upstream.requests()[0];
    assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/p/a?b=1");
    assert_eq!(seen.all("cookie"), Vec::<&str>::new());
    // A request that is not answered from what is kept stays as it is.
    asked(&penstock, "POST", "/p/a?utm=x", &cookie).await.expect(200);
    let seen = upstream.requests().pop().unwrap();
    assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/p/a?utm=x");
    assert_eq!(seen.all("cookie"), ["session=1"]);
}

#[tokio::test]
async fn hosts_never_share_a_page() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=60", "host ").echoing("host"));
    for place in ["miss", "hit-l1"] {
        for host in ["one.test", "two.test"] {
            let got = got_with(&penstock, "/p/a", &[("host", host)]).await;
            assert_eq!(got, from(place, &format!("host {host}")));
        }
    }
    // Headers that name another page than the address does name another page.
    upstream.put("/p/b", Page::of("max-age=60", "url ").echoing("x-original-url"));
    let named = [("x-original-url", "/evil")];
    assert_eq!(got_with(&penstock, "/p/b", &named).await, from("miss", "url /evil"));
    assert_eq!(got(&penstock, "/p/b").await, from("miss", "url "));
    // An untrusted client's word about the host is not passed on, so it is in nobody's page.
    upstream.put("/p/c", Page::of("max-age=60", "host ").echoing("x-forwarded-host"));
    let forged = [("host", "one.test"), ("x-forwarded-host", "evil.test")];
    assert_eq!(got_with(&penstock, "/p/c", &forged).await, from("miss", "host one.test"));
    assert_eq!(
        got_with(&penstock, "/p/c", &[("host", "one.test")]).await,
        from("hit-l1", "host one.test")
    );
}

#[tokio::test]
async fn odd_requests_poison_nothing() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(&format!("{RULE}ttl = \"1m\"\n"), &upstream).await;
    for request in [
        "GET /p/a HTTP/1.1\r\nHost: s\r\nHost: evil\r\n\r\n",
        "GET /p/../account HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /p/%2e%2e/account HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /p/..%2faccount HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /p/a;x HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET http://evil/p/a HTTP/1.1\r\nHost: evil\r\n\r\n",
        "GET /p/a HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\n\r\nhello",
        "GET /p/a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET /p/a HTTP/1.1\r\nHost: s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "GET /p/a HTTP/1.0\r\n\r\n",
    ] {
        let mut connection = penstock.raw().await;
        connection.send(request).await.finish().await;
        let (replies, _) = connection.replies(Duration::from_millis(500)).await;
        for reply in &replies {
            let place = reply.header("x-cache").unwrap_or("bypass");
            assert_eq!(place, "bypass", "{request:?} {reply:?}");
        }
    }
    let metrics = penstock.ops("/metrics").await.expect(200);
    let none = r#"cache_entries{cache_layer="l1",cache_type="pages"} 0"#;
    assert!(metrics.text().contains(none), "{}", metrics.text());
    // Duplicated and empty headers of the application's.
    let page = Page::of("max-age=60", "one").with("cache-control", "max-age=0");
    upstream
        .put("/p/two", page.with("vary", "").with("vary", "accept").with("x-a", 1).with("x-a", 2));
    for _ in 0..2 {
        let reply = penstock.get("/p/two").await.expect(200);
        let twice: Vec<_> = reply.headers.get_all("x-a").iter().collect();
        assert_eq!(twice, ["1", "2"]);
    }
    assert_eq!(upstream.asked_for("/p/two"), 2, "of two lives the shorter");
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_request() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=60", "old"));
    got(&penstock, "/p/a").await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(got(&penstock, "/p/a").await.0, "hit-l1");
        asked(&penstock, method, "/p/a", &[]).await.expect(200);
        assert_eq!(got(&penstock, "/p/a").await.0, "miss", "{method}");
    }
    // One that failed, or is about another page, changed nothing.
    asked(&penstock, "POST", "/p/b", &[]).await.expect(200);
    upstream.put("/p/a", Page::of("", "no").status(403));
    asked(&penstock, "POST", "/p/a", &[]).await.expect(403);
    assert_eq!(got(&penstock, "/p/a").await, from("hit-l1", "old"));
    // A page that is being fetched while it changes is not kept.
    upstream.put("/p/c", Page::of("max-age=60", "old").taking(Duration::from_millis(600)));
    let early = got(&penstock, "/p/c");
    let change = async {
        until("it is being fetched", Duration::from_secs(5), async || {
            (upstream.asked_for("/p/c") > 0).then_some(())
        })
        .await;
        upstream.put("/p/c", Page::of("max-age=60", "new"));
        asked(&penstock, "POST", "/p/c", &[]).await.expect(200);
    };
    let (early, ()) = tokio::join!(early, change);
    assert_eq!(early.1, "old");
    assert_eq!(got(&penstock, "/p/c").await, from("miss", "new"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_are_one_request() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    let body = vec![b'x'; 20_000];
    upstream.put("/p/a", Page::of("max-age=60", body).taking(Duration::from_millis(500)));
    let started = penstock_config::clock::now();
    let all = (0..1_000).map(|_| penstock.get("/p/a"));
    let replies = futures_util::future::join_all(all).await;
    println!("1,000 at once for a page of 20 kB that takes 500 ms: {:?}", started.elapsed());
    for reply in replies {
        assert_eq!(reply.expect(200).body.len(), 20_000);
    }
    assert_eq!(upstream.asked_for("/p/a"), 1);
}

#[tokio::test]
async fn one_request_that_wants_nothing_kept_does_not_send_all_to_the_application() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=60", "one").taking(Duration::from_millis(300)));
    let no_store = got_with(&penstock, "/p/a", &[("cache-control", "no-store")]);
    let others = async {
        until("it is being fetched", Duration::from_secs(5), async || {
            (upstream.asked_for("/p/a") > 0).then_some(())
        })
        .await;
        futures_util::future::join_all((0..50).map(|_| got(&penstock, "/p/a"))).await
    };
    let (first, others) = tokio::join!(no_store, others);
    assert_eq!(first, from("bypass", "one"));
    assert!(others.iter().all(|(_, body)| body == "one"));
    assert_eq!(upstream.asked_for("/p/a"), 2);
}

#[tokio::test]
async fn what_a_client_says_about_age_is_heard_where_the_rule_says_so() {
    let upstream = Upstream::http1().await;
    let rules = "[pages.paths.p]\npath = \"/p/*\"\n\
                 [pages.paths.o]\npath = \"/o/*\"\nno_cache = \"revalidate\"\n";
    let penstock = keeping(rules, &upstream).await;
    for (path, asked_for) in [("/p/a", 1), ("/o/a", 5)] {
        upstream.put(path, Page::of("max-age=60", "one").with("etag", "\"1\""));
        got(&penstock, path).await;
        for line in [
            ("cache-control", "no-cache"),
            ("cache-control", "min-fresh=61"),
            ("pragma", "no-cache"),
            ("cache-control", "max-age=0, no-cache"),
        ] {
            assert_eq!(got_with(&penstock, path, &[line]).await, from("hit-l1", "one"), "{line:?}");
        }
        assert_eq!(upstream.asked_for(path), asked_for, "{path}");
    }
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(got_with(&penstock, "/p/a", &only).await.0, "hit-l1");
    asked(&penstock, "GET", "/p/unknown", &only).await.expect(504).problem();
    assert_eq!(upstream.asked_for("/p/unknown"), 0);
}

#[tokio::test]
async fn a_stale_page_is_better_than_none() {
    let address = free_address();
    let upstream = Upstream::http1_on(address).await;
    let rules = format!("{RULE}stale_if_error = \"1h\"\n");
    let penstock = Penstock::over(Shop::empty())
        .policy("cache.toml", &rules)
        .upstream(&[address])
        .env("PENSTOCK_HEALTH_CHECK_INTERVAL_SECONDS", 1)
        .start()
        .await;
    upstream.put("/p/a", Page::of("max-age=0", "one"));
    upstream.put("/p/strict", Page::of("max-age=0, must-revalidate", "one").with("etag", "\"1\""));
    upstream.put("/p/good", Page::of("max-age=60", "one"));
    for path in ["/p/a", "/p/strict", "/p/good"] {
        assert_eq!(got(&penstock, path).await, from("miss", "one"));
    }
    // It answers, but with an error of its own.
    for status in [500, 502, 503, 504] {
        upstream.put("/p/a", Page::of("", "broken").status(status));
        assert_eq!(got(&penstock, "/p/a").await, from("stale", "one"), "{status}");
    }
    upstream.put("/p/a", Page::of("", "teapot").status(418));
    assert_eq!(penstock.get("/p/a").await.status, 418);
    // It is gone, first unnoticed, then known to be.
    gone(upstream).await;
    assert_eq!(got(&penstock, "/p/a").await, from("stale", "one"));
    until("it is known to be gone", Duration::from_secs(10), async || {
        (penstock.get("/other").await.status == 503).then_some(())
    })
    .await;
    let mut connection = penstock.raw().await;
    for _ in 0..3 {
        let request = format!("GET /p/a HTTP/1.1\r\nHost: {}\r\n\r\n", penstock.address);
        let reply = connection.send(request).await.reply().await.expect("the connection stays");
        assert_eq!((reply.header("x-cache"), reply.text().as_str()), (Some("stale"), "one"));
    }
    assert_eq!(got(&penstock, "/p/good").await, from("hit-l1", "one"));
    penstock.get("/p/strict").await.expect(503).problem();
    penstock.get("/p/unknown").await.expect(503).problem();
    // It is back.
    let upstream = Upstream::http1_on(address).await;
    upstream.put("/p/a", Page::of("max-age=60", "two"));
    until("it takes part again", Duration::from_secs(20), async || {
        (got(&penstock, "/p/a").await.1 == "two").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_page_is_served_while_it_is_fetched_anew() {
    let upstream = Upstream::http1().await;
    let rules = format!("{RULE}stale_while_revalidate = \"1h\"\n");
    let penstock = keeping(&rules, &upstream).await;
    upstream.put("/p/a", Page::of("max-age=0", "one"));
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "one"));
    upstream.put("/p/a", Page::of("max-age=60", "two").taking(Duration::from_millis(300)));
    for _ in 0..5 {
        assert_eq!(got(&penstock, "/p/a").await, from("stale", "one"));
    }
    let mut asked = 6;
    until("the new page is there", Duration::from_secs(10), async || {
        asked += 1;
        (got(&penstock, "/p/a").await == from("hit-l1", "two")).then_some(())
    })
    .await;
    assert_eq!(upstream.asked_for("/p/a"), 2);
    // Fetching it anew was no request of anybody's.
    let series = r#"penstock_requests_total{route="upstream",status="200"}"#;
    // A request is counted when its answer is on its way.
    until("all are counted", Duration::from_secs(10), async || {
        (penstock.metric(series).await as i32 == asked).then_some(())
    })
    .await;
}

/// Waiting in line for an answer that nobody after the first may use would be waiting for nothing.
#[tokio::test]
async fn pages_that_are_never_good_are_asked_about_side_by_side() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(RULE, &upstream).await;
    upstream.put("/p/a", Page::of("no-cache", "one").with("etag", "\"1\""));
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "one"));
    let slow = Page::of("no-cache", "one").with("etag", "\"1\"");
    upstream.put("/p/a", slow.taking(Duration::from_millis(500)));
    let started = penstock_config::clock::now();
    let all = (0..20).map(|_| got(&penstock, "/p/a"));
    for got in futures_util::future::join_all(all).await {
        assert_eq!(got, from("hit-l1", "one"));
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(upstream.asked_for("/p/a"), 21);
}

#[tokio::test]
async fn half_a_page_is_never_served_as_a_whole() {
    const HALVES: [&str; 3] = [
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        // Without a length, half looks like a whole.
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nhalf",
    ];
    for half in HALVES {
        let address = free_address();
        let broken = Upstream::says_on(address, half).await;
        let penstock = keeping(RULE, &broken).await;
        for _ in 0..2 {
            if let Ok(answer) = penstock.request("GET", "/p/a").send().await {
                let place = answer.headers().get("x-cache").cloned();
                let _ = answer.bytes().await;
                assert_ne!(place.unwrap(), "hit-l1", "{half:?}");
            }
        }
        gone(broken).await;
        let whole = Upstream::http1_on(address).await;
        whole.put("/p/a", Page::of("max-age=60", "whole"));
        until("the whole page", Duration::from_secs(10), async || {
            let reply = penstock.get("/p/a").await;
            (reply.status == 200 && reply.text() == "whole").then_some(())
        })
        .await;
        assert_eq!(got(&penstock, "/p/a").await, from("hit-l1", "whole"), "{half:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_leaves_no_half_page() {
    let upstream = Upstream::http1().await;
    let penstock = keeping(&format!("{RULE}ttl = \"1m\"\n"), &upstream).await;
    upstream.put("/p/a", Page::of("", vec![b'x'; 400_000]).taking(Duration::from_millis(200)));
    for _ in 0..3 {
        let mut connection = penstock.raw().await;
        connection.send("GET /p/a HTTP/1.1\r\nHost: s\r\n\r\n").await;
        drop(connection);
    }
    let reply = penstock.get("/p/a").await.expect(200);
    assert_eq!(reply.body.len(), 400_000);
    assert_eq!(penstock.get("/p/a").await.expect(200).body.len(), 400_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_below_its_bound() {
    const BOUND: u64 = 4 << 20;
    let upstream = Upstream::http1().await;
    let rules =
        format!("[pages]\nmemory = \"4MiB\"\nlargest_body = \"512KiB\"\n{RULE}ttl = \"1m\"\n");
    let penstock = keeping(&rules, &upstream).await;
    for number in 0..60 {
        upstream.put(&format!("/p/{number}"), Page::of("", vec![b'x'; 300_000]));
    }
    upstream.put("/p/large", Page::of("", vec![b'x'; 600_000]));
    let bytes = async || {
        penstock.metric(r#"cache_bytes{cache_layer="l1",cache_type="pages"}"#).await as u64
    };
    for _ in 0..3 {
        let paths: Vec<String> = (0..60).map(|number| format!("/p/{number}")).collect();
        let all = paths.iter().map(|path| penstock.get(path));
        let watched = async {
            for _ in 0..20 {
                let taken = bytes().await;
                assert!(taken <= BOUND, "{taken}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (replies, ()) = tokio::join!(futures_util::future::join_all(all), watched);
        for reply in replies {
            assert_eq!(reply.expect(200).body.len(), 300_000);
        }
    }
    let taken = bytes().await;
    assert!((300_000..=BOUND).contains(&taken), "{taken}");
    // What is too large passes, whole, and is not kept.
    for _ in 0..2 {
        let reply = penstock.get("/p/large").await.expect(200);
        assert_eq!((reply.header("x-cache"), reply.body.len()), ("bypass", 600_000));
    }
    // Off: everything goes.
    penstock.shop.rename_policy("cache.toml", "[pages]\nenabled = false\n");
    until("nothing is kept", Duration::from_secs(10), async || {
        penstock.get("/p/1").await.expect(200);
        (bytes().await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn clients_and_applications_of_http2_share_the_pages() {
    let upstream = Upstream::h2c().await;
    let penstock = Penstock::over(Shop::empty())
        .policy("cache.toml", RULE)
        .env("PENSTOCK_UPSTREAM", format!("h2c://{}", upstream.address))
        .start()
        .await;
    upstream.put("/p/a", Page::of("max-age=60", "one"));
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    assert_eq!(got(&penstock, "/p/a").await, from("miss", "one"));
    for _ in 0..2 {
        let answer = http2.get(penstock.url("/p/a")).send().await.unwrap();
        assert_eq!(answer.headers()["x-cache"], "hit-l1");
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert_eq!(answer.text().await.unwrap(), "one");
    }
    upstream.put("/p/b", Page::of("max-age=60", "two"));
    let answer = http2.get(penstock.url("/p/b")).send().await.unwrap();
    assert_eq!(answer.headers()["x-cache"], "miss");
    assert_eq!(answer.text().await.unwrap(), "two");
    assert_eq!(got(&penstock, "/p/b").await, from("hit-l1", "two"));
    assert_eq!(upstream.requests().len(), 2);
}
