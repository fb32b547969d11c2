//! A server's address inside a URL, and who one is there.

use super::secret::{Secret, decode};
use super::server::{is_name, write_host};
use crate::read::{Read, printable};
use std::fmt;
use std::net::Ipv6Addr;

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// DNS name or IP address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

/// `user:password`, `:password`, or as `redis-cli` takes it too, `password` alone. `None`: it is not percent-encoded.
pub(super) fn read_credentials(text: &str) -> Option<(Option<String>, Option<Secret>)> {
    let (user, password) = text.split_once(':').unwrap_or(("", text));
    let some = |text: String| (!text.is_empty()).then_some(text);
    Some((some(decode(user)?), some(decode(password)?).map(Secret::new)))
}

pub(super) fn read_node(text: &str, usual_port: u16) -> Read<Node> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let bracketed = text.starts_with('[');
    let good_host = if bracketed { host.parse::<Ipv6Addr>().is_ok() } else { is_name(host) };
    if !good_host {
        let hint = (!bracketed && text.parse::<Ipv6Addr>().is_ok())
            .then(|| format!("write IPv6 addresses in brackets: [{text}]"));
        let why = format!("\"{}\" is not a name and not an address", printable(host));
        return Err((why, hint));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => usual_port,
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                let why =
                    format!("the port of \"{}\" is not a number from 1 to 65535", printable(host));
                return Err((why, None));
            }
        },
        None => return Err(("there is something between a host and its port".into(), None)),
    };
    Ok(Node { host: host.to_ascii_lowercase(), port })
}
