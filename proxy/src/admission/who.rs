//! Who is meant, as counters key by it and operators read and write it.

use crate::identity::Client;
use penstock_config::keys::KeyId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A client, in 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Who {
    /// An IPv4 address, IPv4-mapped IPv6 included.
    Address(u32),
    /// The first 64 bits of an IPv6 address: a household has the rest to itself and can change it
    /// at will.
    Network([u32; 2]),
    /// The id of an API key.
    Key([u32; 2]),
}

/// A text that names no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no client; write an address, an IPv6 network of 64 bits, or key: and a key's id")]
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

/// Who has a good key is counted by it, wherever it is used.
impl From<&Client> for Who {
    fn from(client: &Client) -> Self {
        client.key.as_ref().map_or_else(|| client.address.into(), |key| key.id().into())
    }
}

impl From<KeyId> for Who {
    fn from(id: KeyId) -> Self {
        let bits = id.bits();
        Self::Key([(bits >> 32) as u32, bits as u32])
    }
}

/// `192.0.2.7`, `2001:db8:0:1::/64` or `key:` and its id. Fit for a Redis hash tag.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address(bits) => Ipv4Addr::from_bits(bits).fmt(f),
            Self::Network([high, low]) => {
                let bits = u128::from(high) << 96 | u128::from(low) << 64;
                write!(f, "{}/64", Ipv6Addr::from_bits(bits))
            }
            Self::Key([high, low]) => {
                let bits = u64::from(high) << 32 | u64::from(low);
                write!(f, "key:{}", KeyId::of_bits(bits))
            }
        }
    }
}

/// Reads what [`fmt::Display`] writes, and any IPv6 address for its network.
impl FromStr for Who {
    type Err = NobodyError;

    fn from_str(text: &str) -> Result<Self, NobodyError> {
        if let Some(id) = text.strip_prefix("key:") {
            return KeyId::parse(id.as_bytes()).map(Self::from).ok_or(NobodyError);
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

/// Somebody and the rule under which the requests are counted. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counted {
    /// Whose.
    pub who: Who,
    /// The id of the rule.
    pub rule: u32,
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
        // A number that is somebody's IPv4 address is nobody's IPv6 network.
        check("0:0:a00:1::", "0:0:a00:1::/64");
        check("key:abcdefghij27", "key:abcdefghij27");
        for nobody in ["", "key:", "key:0001", "10.0.0.0/64", "10.0.0.0/8", "shop", "::/65"] {
            assert_eq!(nobody.parse::<Who>(), Err(NobodyError), "{nobody}");
        }
        assert_eq!((size_of::<Who>(), size_of::<Counted>()), (12, 16));
    }
}
