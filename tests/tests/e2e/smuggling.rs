//! Two parsers that disagree are a hole: what reaches the application is what was judged here.

use penstock_tests::{Penstock, Upstream};
use std::time::Duration;

/// A second request hidden where only one of two parsers would see it.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n";

/// What may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Nothing reaches the application: a 400-class answer or a close.
    Refused,
    /// Refused, or passed on as exactly one request.
    AtMostOne,
}

use Expected::{AtMostOne, Refused};

#[tokio::test]
async fn no_second_request_reaches_the_application() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let hidden_chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let length = HIDDEN.len();
    let rows = [
        ("CL and TE", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"), AtMostOne),
        ("TE and CL", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{hidden_chunk}"), AtMostOne),
        ("two CL", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"), Refused),
        ("CL list", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 0, {length}\r\n\r\n{HIDDEN}"), Refused),
        ("CL with a plus", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: +0\r\n\r\n{HIDDEN}"), Refused),
        ("CL negative", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: -1\r\n\r\n{HIDDEN}"), Refused),
        ("CL hexadecimal", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 0x0\r\n\r\n{HIDDEN}"), Refused),
        ("CL overflow", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 18446744073709551616\r\n\r\n{HIDDEN}"), Refused),
        ("blank before the colon of CL", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length : {length}\r\n\r\n{HIDDEN}"), Refused),
        ("TE with another case", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\ntRANSFER-ENCODING: cHUNKED\r\n\r\n0\r\n\r\n{HIDDEN}"), AtMostOne),
        ("TE unknown", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}"), Refused),
        ("TE with a vertical tab", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{HIDDEN}"), Refused),
        ("TE twice", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{HIDDEN}"), Refused),
        ("TE folded", format!("POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{HIDDEN}"), Refused),
        ("TE in HTTP/1.0", format!("POST /a HTTP/1.0\r\nHost: s\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}"), AtMostOne),
        ("folded header", "GET /a HTTP/1.1\r\nHost: s\r\nX-A: b\r\n c: d\r\n\r\n".to_owned(), Refused),
        ("chunk size with a sign", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{HIDDEN}"), AtMostOne),
        ("chunk size with 0x", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{HIDDEN}"), AtMostOne),
        ("chunk size overflow", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{HIDDEN}"), AtMostOne),
        ("chunk longer than it says", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n{HIDDEN}"), AtMostOne),
        ("chunk ends with a bare LF", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n{HIDDEN}"), AtMostOne),
        ("chunk extension with a line", format!("POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0;a=\"\r\n\r\n{HIDDEN}\"\r\n\r\n"), AtMostOne),
        ("trailers that are headers", "POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 50\r\nHost: evil\r\n\r\n".to_owned(), AtMostOne),
        ("no Host", "GET /a HTTP/1.1\r\n\r\n".to_owned(), AtMostOne),
        ("two Hosts", "GET /a HTTP/1.1\r\nHost: s\r\nHost: evil\r\n\r\n".to_owned(), AtMostOne),
        ("NUL in a header", "GET /a HTTP/1.1\r\nHost: s\r\nX-A: b\0c\r\n\r\n".to_owned(), Refused),
        ("CR in a header", "GET /a HTTP/1.1\r\nHost: s\r\nX-A: b\rX-B: c\r\n\r\n".to_owned(), Refused),
        ("blank in a header's name", "GET /a HTTP/1.1\r\nHost: s\r\nX A: b\r\n\r\n".to_owned(), Refused),
        ("no colon", "GET /a HTTP/1.1\r\nHost: s\r\nX-A\r\n\r\n".to_owned(), Refused),
        ("HTTP/9.9", "GET /a HTTP/9.9\r\nHost: s\r\n\r\n".to_owned(), Refused),
        ("HTTP/0.9", "GET /a\r\n\r\n".to_owned(), Refused),
        ("two blanks", "GET  /a HTTP/1.1\r\nHost: s\r\n\r\n".to_owned(), AtMostOne),
        ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n".to_owned(), Refused),
    ];
    let mut answers = Vec::new();
    for (number, (_, bytes, _)) in rows.iter().enumerate() {
        // Each row has paths of its own, so that a late request is not counted for the next.
        let bytes = bytes.replace(" /a", &format!(" /row-{number}"));
        let bytes = bytes.replace("/smuggled", &format!("/hide-{number:02}"));
        let mut connection = penstock.raw().await;
        connection.send(&bytes).await.finish().await;
        let (replies, _) = connection.replies(Duration::from_millis(500)).await;
        answers.push(replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
    }
    penstock.get("/fine").await.expect(200);
    let requests = upstream.requests();
    let mut wrong = Vec::new();
    for (number, ((name, _, expected), statuses)) in rows.iter().zip(answers).enumerate() {
        let at = |path: &str| requests.iter().filter(|seen| seen.uri.path() == path).count();
        let reached = at(&format!("/row-{number}"));
        let smuggled = at(&format!("/hide-{number:02}"));
        let refused = reached == 0 && statuses.iter().all(|status| *status >= 400);
        let faulty = statuses.iter().any(|status| *status >= 500 && *status != 502);
        let allowed = match expected {
            Refused => refused,
            AtMostOne => reached <= 1,
        };
        if faulty || smuggled > 0 || !allowed {
            wrong.push(format!(
                "{name}: answers {statuses:?}, {reached} reached the application, {smuggled} hidden"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_belongs_to_one_connection_stays_on_it() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let mut connection = penstock.raw().await;
    connection
        .send(
            "GET /a HTTP/1.1\r\nHost: s\r\nConnection: keep-alive, X-Secret, X-Other\r\n\
             X-Secret: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic c2VjcmV0\r\nTE: trailers, deflate\r\nTrailer: X-T\r\n\
             X-Kept: yes\r\n\r\n",
        )
        .await;
    assert_eq!(connection.reply().await.unwrap().status, 200);
    let seen = upstream.only_request();
    for name in [
        "x-secret",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "trailer",
        "upgrade",
    ] {
        assert_eq!(seen.all(name), Vec::<&str>::new(), "{name}");
    }
    assert!(!seen.all("connection").iter().any(|value| value.to_lowercase().contains("secret")));
    assert!(!seen.all("te").iter().any(|value| value.contains("deflate")));
    assert_eq!(seen.all("x-kept"), ["yes"]);
}

#[tokio::test]
async fn odd_targets_reach_the_application_as_they_are_or_not_at_all() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    for target in [
        "//",
        "//a//b",
        "/../a",
        "/a/../../b",
        "/a/./b",
        "/%2e%2e/a",
        "/a%2fb",
        "/a%00b",
        "/a;b=c",
        "/a?b?c",
        "/a?b=%zz",
        "http://shop.test/absolute?x=1",
        "http://evil.test/absolute",
        "/a#b",
    ] {
        let before = upstream.requests().len();
        let reply = penstock.raw_get(target).await;
        let status = reply.as_ref().map_or(400, |reply| reply.status);
        let reached = upstream.requests().split_off(before);
        if status == 200 {
            assert_eq!(reached.len(), 1, "{target}");
            let seen = reached[0].uri.path_and_query().unwrap().as_str().to_owned();
            let sent = target.strip_prefix("http://shop.test").unwrap_or(target);
            let sent = sent.strip_prefix("http://evil.test").unwrap_or(sent);
            let sent = sent.split('#').next().unwrap();
            assert_eq!(seen, sent, "{target}");
        } else {
            assert!((400..500).contains(&status), "{target}: {reply:?}");
            assert!(reached.is_empty(), "{target}");
        }
    }
    // The engine's paths are no way round it: nothing below reaches the application by spelling.
    for target in ["/search?q=", "/popular?k=0", "/events"] {
        let before = upstream.requests().len();
        let status = penstock.raw_get(target).await.unwrap().status;
        assert!((400..500).contains(&status), "{target}: {status}");
        assert_eq!(upstream.requests().len(), before, "{target}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let mut connection = penstock.raw().await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: s\r\n\r\n");
    connection.send([one("/first"), one("/status/404"), one("/third")].concat()).await;
    for (path, status) in [("/first", 200), ("/status/404", 404), ("/third", 200)] {
        let Some(reply) = connection.reply().await else {
            // Closing instead is allowed (RFC 9112, 9.3.2); a client sends the rest again.
            assert_ne!(path, "/first");
            return;
        };
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.text().contains(path), "{path}: {}", reply.text());
    }
}
