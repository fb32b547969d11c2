//! Who is meant, as counters key by it and operators read and write it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A client: 16 bytes, whichever kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Who {
    /// An IPv4 address.
    Address(u32),
    /// The first 64 bits of an IPv6 address: a household has the rest to itself and can change it
    /// at will.
    Network([u32; 2]),
    /// The id of an API key: 12 characters of `a-z2-7`.
    Key([u8; 12]),
}

/// A text that names no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no client; write an address, an IPv6 network of 64 bits, or key: and 24 hex digits"
)]
pub struct NobodyError;

impl From<IpAddr> for Who {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::Address(v4.to_bits()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self::Network([(bits >> 96) as u32, (bits >> 64) as u32])
            }
        }
    }
}

/// `192.0.2.7`, `2001:db8:0:1::/64` or `key:` and the id.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address(bits) => Ipv4Addr::from_bits(bits).fmt(f),
            Self::Network([high, low]) => {
                let bits = u128::from(high) << 96 | u128::from(low) << 64;
                write!(f, "{}/64", Ipv6Addr::from_bits(bits))
            }
            Self::Key(id) => write!(f, "key:{}", id.escape_ascii()),
        }
    }
}

/// Reads what [`fmt::Display`] writes, and any IPv6 address for its network.
impl FromStr for Who {
    type Err = NobodyError;

    fn from_str(text: &str) -> Result<Self, NobodyError> {
        if let Some(id) = text.strip_prefix("key:") {
            let id: [u8; 12] = id.as_bytes().try_into().map_err(|_| NobodyError)?;
            let good = id.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
            return if good { Ok(Self::Key(id)) } else { Err(NobodyError) };
        }
        if let Some(network) = text.strip_suffix("/64") {
            let address: Ipv6Addr = network.parse().map_err(|_| NobodyError)?;
            return Ok(IpAddr::V6(address).into());
        }
        text.parse::<IpAddr>().map(Self::from).map_err(|_| NobodyError)
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

impl TryFrom<String> for Who {
    type Error = NobodyError;

    fn try_from(text: String) -> Result<Self, NobodyError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_written_and_read() {
        let check = |text: &str, shown: &str| {
            let who: Who = text.parse().unwrap();
            assert_eq!(who.to_string(), shown);
            assert_eq!(shown.parse(), Ok(who), "{shown}");
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:0:1:ffff::2", "2001:db8:0:1::/64");
        check("2001:db8:0:1::/64", "2001:db8:0:1::/64");
        check("key:abcdefgh2347", "key:abcdefgh2347");
        for nobody in [
            "",
            "key:",
            "key:0001",
            "key:abcdefgh234",
            "key:ABCDEFGH2347",
            "10.0.0.0/64",
            "10.0.0.0/8",
            "shop",
            "::/65",
        ] {
            assert_eq!(nobody.parse::<Who>(), Err(NobodyError), "{nobody}");
        }
        assert_eq!(size_of::<Who>(), 16);
    }
}
