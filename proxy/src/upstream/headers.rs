//! Headers on the way through, both directions (RFC 9110, 7.6).
//!
//! Towards the application, Pingora itself drops `Connection`, what it names and the other
//! hop-by-hop headers, refuses a `Connection` that names forwarding headers, and lets only WebSocket
//! upgrades through; what is left to say is who asked.

use crate::decision::Decision;
use crate::identity::Client;
use crate::respond::limit_headers;
use http::{HeaderName, HeaderValue, header};
use ipnet::IpNet;
use pingora::http::{RequestHeader, ResponseHeader};

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Asks for a WebSocket (RFC 6455, 4.2.1). Pingora takes any `Upgrade` for one; what is none must
/// not get a WebSocket's patience, nor HTTP/1 to a server that speaks HTTP/2.
pub fn is_websocket(request: &RequestHeader) -> bool {
    let names = |header: HeaderName, token: &[u8]| {
        let lines = request.headers.get_all(header).iter();
        lines
            .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
            .any(|named| named.trim_ascii().eq_ignore_ascii_case(token))
    };
    let mut upgrades = request.headers.get_all(header::UPGRADE).iter();
    let only_websocket = upgrades
        .next()
        .is_some_and(|upgrade| upgrade.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"))
        && upgrades.next().is_none();
    request.version == http::Version::HTTP_11
        && request.method == http::Method::GET
        && only_websocket
        && names(header::CONNECTION, b"upgrade")
}

/// Tells the application who asked, in the headers it may believe: what an untrusted client wrote
/// there itself is gone. `Host` stays the client's.
pub fn to_upstream(
    request: &mut RequestHeader,
    decision: &Decision,
    trusted: &[IpNet],
    tls: bool,
    websocket: bool,
) -> pingora::Result<()> {
    if !websocket && request.remove_header(&header::UPGRADE).is_some() {
        // Pingora has put `upgrade` there, and nothing else is ever in it.
        request.remove_header(&header::CONNECTION);
    }
    join_cookies(request)?;
    let client: &Client = &decision.client;
    let peer = client.peer.to_string();
    for disguised in disguised_forwarding(request) {
        request.remove_header(&disguised);
    }
    if client.came_through_trusted_proxy(trusted) {
        let route = request
            .headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .map(HeaderValue::as_bytes)
            .chain([peer.as_bytes()])
            .collect::<Vec<_>>()
            .join(&b", "[..]);
        set(request, X_FORWARDED_FOR, &route)?;
    } else {
        for forged in
            ["forwarded", "x-real-ip", X_FORWARDED_HOST, X_FORWARDED_PROTO, "x-forwarded-port"]
        {
            request.remove_header(forged);
        }
        set(request, X_FORWARDED_FOR, peer.as_bytes())?;
    }
    if !request.headers.contains_key(X_FORWARDED_PROTO) {
        set(request, X_FORWARDED_PROTO, if tls { b"https" } else { b"http" })?;
    }
    if !request.headers.contains_key(X_FORWARDED_HOST) && !decision.host.is_empty() {
        set(request, X_FORWARDED_HOST, decision.host.as_bytes())?;
    }
    if decision.trace.parent.is_none() {
        // Belongs to a parent that was not there or could not be read.
        request.remove_header("tracestate");
    }
    request.insert_header("traceparent", decision.trace.traceparent())
}

/// Forwarding headers spelt with underscores. Applications behind CGI, WSGI or Rack read
/// `X_Forwarded_For` and `X-Forwarded-For` as one, and no honest proxy writes the former.
fn disguised_forwarding(request: &RequestHeader) -> Vec<HeaderName> {
    let disguised = |name: &&HeaderName| {
        let name = name.as_str();
        let dashed = name.replace('_', "-");
        name.contains('_') && (dashed.starts_with("x-forwarded-") || dashed == "x-real-ip")
    };
    request.headers.keys().filter(disguised).cloned().collect()
}

/// HTTP/2 clients may send each cookie in a line of its own; HTTP/1 has one line for all of them
/// (RFC 9113, 8.2.3), and applications read the first.
fn join_cookies(request: &mut RequestHeader) -> pingora::Result<()> {
    let crumbs = request.headers.get_all(header::COOKIE).iter();
    let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return Ok(());
    }
    let joined = crumbs.join(&b"; "[..]);
    set(request, "cookie", &joined)
}

fn set(request: &mut RequestHeader, name: &'static str, value: &[u8]) -> pingora::Result<()> {
    match HeaderValue::from_bytes(value) {
        Ok(value) => request.insert_header(name, value),
        // Bytes no header may carry: better none than a wrong one.
        Err(_) => {
            request.remove_header(name);
            Ok(())
        }
    }
}

/// Drops what the application said to us and not to the client, and adds the trace id.
pub fn to_client(response: &mut ResponseHeader, decision: &Decision) -> pingora::Result<()> {
    // The handshake of an upgrade is made of hop-by-hop headers.
    if response.status != http::StatusCode::SWITCHING_PROTOCOLS {
        for name in named_by_connection(response) {
            response.remove_header(&name);
        }
        for name in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
            response.remove_header(name);
        }
    }
    limit_headers(decision, response)?;
    response.insert_header("X-Trace-ID", decision.trace.trace_id.to_string())
}

/// The headers `Connection` names, without those that frame or describe the message: naming them
/// would change what the client reads.
pub fn named_by_connection(response: &ResponseHeader) -> Vec<HeaderName> {
    const KEPT: [HeaderName; 6] = [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::SET_COOKIE,
        header::DATE,
    ];
    response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !KEPT.contains(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::decision;

    fn sent(lines: &[(&'static str, &str)], peer: &str) -> Vec<(String, String)> {
        let mut request = RequestHeader::build("GET", b"/x", None).unwrap();
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        let mut decision = decision();
        decision.client.peer = peer.parse().unwrap();
        to_upstream(&mut request, &decision, &["10.0.0.0/8".parse().unwrap()], false, false)
            .unwrap();
        let mut seen: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| *name != "traceparent")
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        seen.sort();
        seen
    }

    #[test]
    fn the_application_is_told_who_asked() {
        let check = |lines: &[(&'static str, &str)], peer: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> =
                expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(sent(lines, peer), expected, "{lines:?}");
        };
        let plain = |route| {
            [
                (X_FORWARDED_FOR, route),
                (X_FORWARDED_HOST, "shop.example"),
                (X_FORWARDED_PROTO, "http"),
            ]
        };
        check(&[], "1.2.3.4", &plain("1.2.3.4"));
        // Crumbs of HTTP/2.
        check(
            &[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")],
            "1.2.3.4",
            &[&[("cookie", "a=1; b=2; c=3; d=4")][..], &plain("1.2.3.4")].concat(),
        );
        // Forged by a client.
        check(
            &[
                (X_FORWARDED_FOR, "6.6.6.6"),
                (X_FORWARDED_PROTO, "https"),
                (X_FORWARDED_HOST, "evil.example"),
                ("x-real-ip", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("tracestate", "a=b"),
            ],
            "1.2.3.4",
            &plain("1.2.3.4"),
        );
        // Forged with underscores, which nobody is trusted with.
        let disguised = [
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_proto", "https"),
            ("x_forwarded_host", "evil.example"),
            ("x_forwarded_prefix", "/evil"),
            ("X_Real_IP", "6.6.6.6"),
        ];
        check(&disguised, "1.2.3.4", &plain("1.2.3.4"));
        check(&disguised, "10.0.0.1", &plain("10.0.0.1"));
        check(&[("x_own", "1")], "1.2.3.4", &[&plain("1.2.3.4")[..], &[("x_own", "1")]].concat());
        // Said by a proxy we trust.
        check(
            &[
                (X_FORWARDED_FOR, "6.6.6.6"),
                (X_FORWARDED_FOR, "9.9.9.9"),
                (X_FORWARDED_PROTO, "https"),
            ],
            "10.0.0.1",
            &[
                (X_FORWARDED_FOR, "6.6.6.6, 9.9.9.9, 10.0.0.1"),
                (X_FORWARDED_HOST, "shop.example"),
                (X_FORWARDED_PROTO, "https"),
            ],
        );
    }

    #[test]
    fn only_a_whole_handshake_is_a_websocket() {
        let check = |method: &str, version, lines: &[(&'static str, &str)], expected: bool| {
            let mut request = RequestHeader::build(method, b"/x", None).unwrap();
            request.set_version(version);
            for (name, value) in lines {
                request.append_header(*name, *value).unwrap();
            }
            assert_eq!(is_websocket(&request), expected, "{method} {version:?} {lines:?}");
        };
        use http::Version;
        let (connection, upgrade) = (("connection", "Upgrade"), ("upgrade", "websocket"));
        check("GET", Version::HTTP_11, &[connection, upgrade], true);
        check(
            "GET",
            Version::HTTP_11,
            &[("connection", "keep-alive, UPGRADE"), ("upgrade", "WebSocket")],
            true,
        );
        check("GET", Version::HTTP_11, &[("connection", "keep-alive"), connection, upgrade], true);
        check("POST", Version::HTTP_11, &[connection, upgrade], false);
        check("GET", Version::HTTP_2, &[connection, upgrade], false);
        check("GET", Version::HTTP_10, &[connection, upgrade], false);
        check("GET", Version::HTTP_11, &[upgrade], false);
        check("GET", Version::HTTP_11, &[connection], false);
        check("GET", Version::HTTP_11, &[connection, ("upgrade", "h2c")], false);
        check("GET", Version::HTTP_11, &[connection, ("upgrade", "h2c"), upgrade], false);
    }

    #[test]
    fn the_trace_goes_on() {
        let mut request = RequestHeader::build("GET", b"/x", None).unwrap();
        request.append_header("traceparent", "nonsense").unwrap();
        let decision = decision();
        to_upstream(&mut request, &decision, &[], false, false).unwrap();
        assert_eq!(request.headers["traceparent"], decision.trace.traceparent());
        assert_eq!(request.headers.get_all("traceparent").iter().count(), 1);
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let check = |status: u16, lines: &[(&'static str, &str)], left: &[&str]| {
            let mut response = ResponseHeader::build(status, None).unwrap();
            for (name, value) in lines {
                response.append_header(*name, *value).unwrap();
            }
            to_client(&mut response, &decision()).unwrap();
            let mut names: Vec<_> = response.headers.keys().map(HeaderName::as_str).collect();
            names.retain(|name| *name != "x-trace-id");
            names.sort_unstable();
            assert_eq!(names, left, "{lines:?}");
        };
        check(
            200,
            &[
                ("connection", "close, x-internal"),
                ("x-internal", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("upgrade", "h2c"),
                ("etag", "x"),
            ],
            &["etag"],
        );
        check(
            200,
            &[("connection", "content-length, transfer-encoding"), ("content-length", "3")],
            &["content-length"],
        );
        check(
            101,
            &[("connection", "upgrade"), ("upgrade", "websocket")],
            &["connection", "upgrade"],
        );
    }
}
