//! The PROXY protocol: how a balancer that passes TCP connections through says whose they are
//! (proxy-protocol.txt of HAProxy, versions 1 and 2).
//!
//! The parser is a pure function of the bytes so far. It says how many more it needs and never asks
//! for one that might belong to what follows, so a reader that obeys it leaves the rest untouched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest line of version 1, its end included.
const MAX_V1_BYTES: usize = 107;
/// No line of version 1 is shorter than `PROXY UNKNOWN` and its end; this much is always there.
const MIN_BYTES: usize = 12;
/// How a line of version 1 begins.
const V1: &[u8] = b"PROXY ";
/// How version 2 begins.
const V2: &[u8; MIN_BYTES] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2: signature, command, family, length.
const V2_HEAD_BYTES: usize = 16;
/// Addresses and extensions together. Real ones have a few hundred bytes.
const MAX_V2_BYTES: usize = 4_096;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A client of the balancer.
    Client(SocketAddr),
    /// The balancer's own, such as a health check.
    Balancer,
    /// A client the balancer does not name.
    Unknown,
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At least this many more are needed, and they all belong to the header.
    Needs(usize),
    /// They are the whole header.
    Whole(Source),
}

/// The bytes are no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PROXY header: {0}")]
pub struct Malformed(&'static str);

/// Reads the beginning of a connection, no byte of which was taken from behind the header.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    let (v1, v2) = (begins(V1), begins(V2));
    if !v1 && !v2 {
        return Err(Malformed("it begins with something else"));
    }
    if bytes.len() < MIN_BYTES {
        return Ok(Progress::Needs(MIN_BYTES - bytes.len()));
    }
    if v1 { parse_v1(bytes) } else { parse_v2(bytes) }
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        let needs = if bytes.ends_with(b"\r") { 1 } else { 2 };
        if bytes.contains(&b'\n') || bytes[..bytes.len() - 1].contains(&b'\r') {
            return Err(Malformed("the line does not end with CR LF"));
        }
        if bytes.len() + needs > MAX_V1_BYTES {
            return Err(Malformed("the line is too long"));
        }
        return Ok(Progress::Needs(needs));
    };
    let line = std::str::from_utf8(line).map_err(|_| Malformed("the line is not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Progress::Whole(Source::Unknown));
    }
    let words: Vec<_> = words.collect();
    let [source, destination, port, destination_port] = words[..] else {
        return Err(Malformed("the line does not have two addresses and two ports"));
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let bad = Malformed("an address is not of the family it should be");
    let client = address(source).ok_or(bad)?;
    address(destination).ok_or(bad)?;
    let bad = Malformed("a port is not a number up to 65535");
    let client = SocketAddr::new(client, port_of(port).ok_or(bad)?);
    port_of(destination_port).ok_or(bad)?;
    Ok(Progress::Whole(Source::Client(client)))
}

/// Digits only, without zeros in front.
fn port_of(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD_BYTES) else {
        return Ok(Progress::Needs(V2_HEAD_BYTES - bytes.len()));
    };
    let (command, family) = (head[12], head[13]);
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if !matches!(command, 0x20 | 0x21) {
        return Err(Malformed("the version or the command is not known"));
    }
    if !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
        return Err(Malformed("the family is not known"));
    }
    let local = command == 0x20;
    // Addresses of both ends, ports of both ends. What follows are extensions.
    let least = match family {
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => 0,
    };
    if length > MAX_V2_BYTES {
        return Err(Malformed("it is too long"));
    }
    if length < least && !local {
        return Err(Malformed("it is too short for its addresses"));
    }
    if rest.len() < length {
        return Ok(Progress::Needs(length - rest.len()));
    }
    if rest.len() > length {
        return Err(Malformed("bytes were taken from behind it"));
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    Ok(Progress::Whole(match family {
        _ if local => Source::Balancer,
        0x11 => {
            let address: [u8; 4] = std::array::from_fn(|at| rest[at]);
            Source::Client(SocketAddr::new(Ipv4Addr::from(address).into(), port(8)))
        }
        0x21 => {
            let address: [u8; 16] = std::array::from_fn(|at| rest[at]);
            Source::Client(SocketAddr::new(Ipv6Addr::from(address).into(), port(32)))
        }
        _ => Source::Unknown,
    }))
}

#[cfg(test)]
mod tests;
