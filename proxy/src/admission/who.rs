//! Whose requests are counted together.

use serde::{Serialize, Serializer};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Somebody, in 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// An IPv4 address, IPv4-mapped IPv6 included.
    V4(u32),
    /// The first 64 bits of an IPv6 address: a household has the rest to itself and can change it at
    /// will.
    V6([u32; 2]),
    /// An API key, by a hash of its id.
    Key([u32; 2]),
    /// All clients together.
    Everybody,
}

impl Who {
    /// An API key.
    pub fn key(id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let hash = hasher.finish();
        Self::Key([(hash >> 32) as u32, hash as u32])
    }
}

impl From<IpAddr> for Who {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self::V6([(bits >> 96) as u32, (bits >> 64) as u32])
            }
        }
    }
}

/// `192.0.2.1`, `2001:db8::/64`, `key 0123456789abcdef`, `everybody`. Fit for a Redis hash tag.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4(bits) => write!(f, "{}", Ipv4Addr::from_bits(bits)),
            Self::V6([high, low]) => {
                let bits = u128::from(high) << 96 | u128::from(low) << 64;
                write!(f, "{}/64", Ipv6Addr::from_bits(bits))
            }
            Self::Key([high, low]) => write!(f, "key {high:08x}{low:08x}"),
            Self::Everybody => f.write_str("everybody"),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
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
    fn who_is_counted_together() {
        let check = |address: &str, shown: &str| {
            let who = Who::from(address.parse::<IpAddr>().unwrap());
            assert_eq!(who.to_string(), shown);
        };
        check("10.0.0.1", "10.0.0.1");
        check("::ffff:10.0.0.1", "10.0.0.1");
        check("2001:db8:0:1::1", "2001:db8:0:1::/64");
        check("2001:db8:0:1:ffff::2", "2001:db8:0:1::/64");
        check("2001:db8:0:2::1", "2001:db8:0:2::/64");
        // A number that is somebody's IPv4 address is nobody's IPv6 network.
        check("0:0:a00:1::", "0:0:a00:1::/64");
        assert_ne!(Who::key("a"), Who::key("b"));
        assert_eq!((size_of::<Who>(), size_of::<Counted>()), (12, 16));
    }
}
