//! Who is asking: the client's address, and the key it presents.
//!
//! The peer of the connection is the client, unless the peer is a proxy we trust: then the client
//! is the rightmost address of `X-Forwarded-For` (or `Forwarded`, or `X-Real-IP`) that is not
//! itself trusted. Everything left of it was written by somebody we do not know.
//!
//! A header that cannot be read is never an error and never a bypass: reading stops at the
//! unreadable element, and the request counts against the last address somebody trusted vouched
//! for, at worst the proxy itself.

pub mod credential;
pub mod keys;

use http::HeaderMap;
use ipnet::IpNet;
use keys::{Keyed, RefusedKey};
use serde::Serialize;
use std::net::IpAddr;

/// More hops than this are not read: a header of a thousand addresses is no route.
const MAX_HOPS: usize = 32;

/// Who is asking and how we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// The address that limits and lists apply to. IPv4-mapped IPv6 is IPv4.
    pub address: IpAddr,
    /// Where the address was found.
    pub via: Via,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The key it presented, when that is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Keyed>,
    /// The key it presented, when that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_key: Option<RefusedKey>,
}

/// Where a client's address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The connection itself.
    Peer,
    /// `X-Forwarded-For`, from a trusted proxy.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), from a trusted proxy.
    Forwarded,
    /// `X-Real-IP`, from a trusted proxy.
    XRealIp,
}

impl Client {
    /// Known by its address alone, that of the connection.
    pub fn at(address: IpAddr) -> Self {
        Self { address, via: Via::Peer, peer: address, key: None, refused_key: None }
    }

    /// From the connection and, if its peer is in `trusted`, the forwarding headers.
    pub fn identify(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let (address, via) = if is_trusted(peer, trusted) {
            forwarded_address(peer, headers, trusted)
        } else {
            (peer, Via::Peer)
        };
        Self { address, via, ..Self::at(peer) }
    }

    /// The connection comes from a proxy in `trusted_proxies`: its forwarding headers are kept.
    pub fn came_through_trusted_proxy(&self, trusted: &[IpNet]) -> bool {
        is_trusted(self.peer, trusted)
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

fn forwarded_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> (IpAddr, Via) {
    let sources: [(Via, Reader); 3] = [
        (Via::XForwardedFor, x_forwarded_for),
        (Via::Forwarded, forwarded),
        (Via::XRealIp, x_real_ip),
    ];
    for (via, read) in sources {
        if let Some(hops) = read(headers) {
            return match rightmost_untrusted(&hops, trusted) {
                Some(address) => (address, via),
                None => (peer, Via::Peer),
            };
        }
    }
    (peer, Via::Peer)
}

/// Hops nearest first; `None` for one that cannot be read.
type Hops = Vec<Option<IpAddr>>;
/// Reads the hops of one header; `None` when there are none.
type Reader = fn(&HeaderMap) -> Option<Hops>;

/// The nearest hop that is not trusted; when reading stops before one is found, the farthest hop
/// that was read.
fn rightmost_untrusted(hops: &Hops, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut vouched_for = None;
    for hop in hops.iter().take(MAX_HOPS) {
        let Some(address) = *hop else { break };
        vouched_for = Some(address);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    vouched_for
}

/// The elements of a list header, over all its lines, nearest (last) first; empty ones skipped.
/// `None` when there are none.
fn elements<'h>(headers: &'h HeaderMap, name: &str) -> Option<Vec<&'h [u8]>> {
    let mut all: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .collect();
    all.reverse();
    (!all.is_empty()).then_some(all)
}

fn x_forwarded_for(headers: &HeaderMap) -> Option<Hops> {
    Some(elements(headers, "x-forwarded-for")?.into_iter().take(MAX_HOPS).map(address).collect())
}

/// RFC 7239. A quoted string that contains a comma splits into two unreadable halves, which is
/// safe: no address contains a comma.
fn forwarded(headers: &HeaderMap) -> Option<Hops> {
    Some(
        elements(headers, "forwarded")?
            .into_iter()
            .take(MAX_HOPS)
            .map(|element| {
                let node = element.split(|&byte| byte == b';').find_map(|pair| {
                    let (name, value) = split_once(pair.trim_ascii(), b'=')?;
                    name.eq_ignore_ascii_case(b"for").then_some(value)
                })?;
                address(unquoted(node))
            })
            .collect(),
    )
}

fn x_real_ip(headers: &HeaderMap) -> Option<Hops> {
    let only = elements(headers, "x-real-ip")?;
    // It names one address; a list is somebody else's header.
    Some(vec![match only.as_slice() {
        [one] => address(one),
        _ => None,
    }])
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|&byte| byte == at)?;
    Some((&text[..position], &text[position + 1..]))
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(text)
}

/// `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = if let Some(rest) = text.strip_prefix('[') {
        let (inner, port) = rest.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        return inner.parse::<std::net::Ipv6Addr>().ok().map(|v6| IpAddr::V6(v6).to_canonical());
    } else {
        match text.split_once(':') {
            // One colon: IPv4 with a port. More: IPv6 without brackets.
            Some((host, port)) if !port.contains(':') => {
                if !is_port(port) {
                    return None;
                }
                host
            }
            _ => text,
        }
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect()
    }

    fn identify(peer: &str, lines: &[(&'static str, &str)]) -> Client {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Client::identify(peer.parse().unwrap(), &headers, &trusted())
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        let check = |peer: &str, lines: &[(&'static str, &str)], address: &str, via: Via| {
            let client = identify(peer, lines);
            assert_eq!(
                (client.address.to_string().as_str(), client.via),
                (address, via),
                "{peer} {lines:?}"
            );
        };
        let xff = "x-forwarded-for";
        // Nobody we trust: headers say nothing.
        check("1.2.3.4", &[], "1.2.3.4", Via::Peer);
        check("1.2.3.4", &[(xff, "9.9.9.9")], "1.2.3.4", Via::Peer);
        check("::ffff:1.2.3.4", &[], "1.2.3.4", Via::Peer);
        // A trusted proxy.
        check("10.0.0.1", &[], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "9.9.9.9")], "9.9.9.9", Via::XForwardedFor);
        check("::ffff:10.0.0.1", &[(xff, "9.9.9.9")], "9.9.9.9", Via::XForwardedFor);
        check("10.0.0.1", &[(xff, "6.6.6.6, 9.9.9.9, 10.2.2.2")], "9.9.9.9", Via::XForwardedFor);
        check(
            "10.0.0.1",
            &[(xff, "6.6.6.6"), (xff, "9.9.9.9,10.2.2.2")],
            "9.9.9.9",
            Via::XForwardedFor,
        );
        check("10.0.0.1", &[(xff, "9.9.9.9:4711")], "9.9.9.9", Via::XForwardedFor);
        check("10.0.0.1", &[(xff, "[2001:db8::1]:443")], "2001:db8::1", Via::XForwardedFor);
        check("10.0.0.1", &[(xff, "2001:db8::1")], "2001:db8::1", Via::XForwardedFor);
        check("fd00::1", &[(xff, "::ffff:9.9.9.9")], "9.9.9.9", Via::XForwardedFor);
        check("10.0.0.1", &[(xff, ",, 9.9.9.9 ,")], "9.9.9.9", Via::XForwardedFor);
        // Everybody is trusted: the farthest is the client.
        check("10.0.0.1", &[(xff, "10.3.3.3, 10.2.2.2")], "10.3.3.3", Via::XForwardedFor);
        // Unreadable: the last address vouched for, never what stands left of it.
        check("10.0.0.1", &[(xff, "6.6.6.6, nonsense")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "6.6.6.6, nonsense, 10.2.2.2")], "10.2.2.2", Via::XForwardedFor);
        check("10.0.0.1", &[(xff, "1.2.3.4.5")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "9.9.9.9:99999")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "[9.9.9.9]")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "fe80::1%eth0")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "\u{e9}\u{e9}")], "10.0.0.1", Via::Peer);
        // An unreadable X-Forwarded-For is not a reason to believe another header.
        check("10.0.0.1", &[(xff, "nonsense"), ("x-real-ip", "6.6.6.6")], "10.0.0.1", Via::Peer);
        // An empty one is as good as none.
        check("10.0.0.1", &[(xff, ""), ("x-real-ip", "9.9.9.9")], "9.9.9.9", Via::XRealIp);
        check("10.0.0.1", &[("x-real-ip", "9.9.9.9, 8.8.8.8")], "10.0.0.1", Via::Peer);
        let fwd = "forwarded";
        check("10.0.0.1", &[(fwd, "for=9.9.9.9;proto=https")], "9.9.9.9", Via::Forwarded);
        check(
            "10.0.0.1",
            &[(fwd, "proto=https; For=\"[2001:db8::1]:80\"")],
            "2001:db8::1",
            Via::Forwarded,
        );
        check(
            "10.0.0.1",
            &[(fwd, "for=6.6.6.6, for=9.9.9.9, for=10.2.2.2")],
            "9.9.9.9",
            Via::Forwarded,
        );
        check("10.0.0.1", &[(fwd, "for=6.6.6.6, for=_hidden")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(fwd, "for=unknown")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(fwd, "by=9.9.9.9")], "10.0.0.1", Via::Peer);
        check("10.0.0.1", &[(xff, "9.9.9.9"), (fwd, "for=6.6.6.6")], "9.9.9.9", Via::XForwardedFor);
    }

    #[test]
    fn a_very_long_route_is_not_followed() {
        let hops = vec!["10.1.1.1"; 5_000].join(",");
        let client = identify("10.0.0.1", &[("x-forwarded-for", &format!("6.6.6.6,{hops}"))]);
        assert_eq!(client.address.to_string(), "10.1.1.1");
    }

    proptest! {
        #[test]
        fn an_untrusted_peer_is_always_itself(value in "\\PC{0,60}") {
            let lines = [("x-forwarded-for", value.as_str()), ("forwarded", &value), ("x-real-ip", &value)];
            prop_assert_eq!(identify("1.2.3.4", &lines).address.to_string(), "1.2.3.4");
        }

        #[test]
        fn what_a_client_writes_on_the_left_changes_nothing(value in "[0-9a-f:.,;=\\[\\]\" ]{0,60}") {
            let line = format!("{value}, 9.9.9.9");
            let client = identify("10.0.0.1", &[("x-forwarded-for", &line)]);
            prop_assert_eq!(client.address.to_string(), "9.9.9.9");
        }

        #[test]
        fn never_panics(value in proptest::collection::vec(0x20_u8..=0xff, 0..80)) {
            let mut headers = HeaderMap::new();
            for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
                if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                    headers.append(name, value);
                }
                Client::identify("10.0.0.1".parse().unwrap(), &headers, &trusted());
            }
        }
    }
}
