//! One server of the shop's own application, from its URL.

use crate::read::{Read, closest, printable};
use std::fmt;
use std::net::Ipv6Addr;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`: HTTP/1.1 without TLS.
    Http,
    /// `https`: TLS; HTTP/2 where the server offers it, else HTTP/1.1.
    Https,
    /// `h2c`: HTTP/2 without TLS.
    H2c,
}

impl Scheme {
    const ALL: [(&str, Self, u16); 3] =
        [("http", Self::Http, 80), ("https", Self::Https, 443), ("h2c", Self::H2c, 80)];

    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// DNS name or IP address (IPv6 without brackets); also the name its certificate must have.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        write_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

/// A host as in a URL: IPv6 in brackets.
pub(super) fn write_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }
}

/// Reads `scheme://host`, `scheme://host:port`, with at most a slash behind.
pub(super) fn parse(text: &str) -> Read<Server> {
    let fail =
        |why: &str, hint: Option<String>| Err((format!("\"{}\": {why}", printable(text)), hint));
    let Some((scheme, rest)) = text.split_once("://") else {
        let hint = format!("write \"http://{}\"", printable(text));
        return fail("the URL has no scheme", Some(hint));
    };
    let known = Scheme::ALL.iter().find(|(name, ..)| *name == scheme.to_lowercase());
    let Some((_, scheme, usual_port)) = known else {
        let near = closest(scheme, Scheme::ALL.iter().map(|(name, ..)| *name));
        let hint = match near {
            Some(near) => format!("did you mean {near}://?"),
            None => "write http://, https:// or h2c://".to_owned(),
        };
        return fail("the scheme is not known", Some(hint));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if !matches!(after, "" | "/") {
        let hint = format!("write only \"{}://{}\"", scheme.as_str(), printable(authority));
        return fail("the path of a request is passed on as it is; the URL has none", Some(hint));
    }
    if authority.contains('@') {
        return fail("user and password are not sent to upstreams", None);
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let bracketed = authority.starts_with('[');
    let good_host = if bracketed { host.parse::<Ipv6Addr>().is_ok() } else { is_name(host) };
    if !good_host {
        let hint = (!bracketed && authority.parse::<Ipv6Addr>().is_ok())
            .then(|| format!("write IPv6 addresses in brackets: [{authority}]"));
        return fail("the host is not a name and not an address", hint);
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => *usual_port,
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 => port,
            _ => return fail("the port is not a number from 1 to 65535", None),
        },
        None => return fail("there is something between the host and the port", None),
    };
    Ok(Server { scheme: *scheme, host: host.to_ascii_lowercase(), port })
}

/// A DNS name or an IPv4 address, loosely: underscores are common inside clusters.
pub(super) fn is_name(host: &str) -> bool {
    let label = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&part.len()) && !part.starts_with('-') && part.bytes().all(plain)
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}
