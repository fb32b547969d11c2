//! The public half of a key.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::borrow::Cow;
use std::fmt;

/// RFC 4648's base 32 in lower case: five bits a character.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BITS: u32 = 5;

/// Names a key: 60 random bits, written as 12 characters of `a-z2-7`. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u64);

impl KeyId {
    /// Characters of an id.
    pub const CHARS: usize = 12;

    /// From the lowest 60 bits.
    pub fn of_bits(bits: u64) -> Self {
        Self(bits & ((1 << (BITS as usize * Self::CHARS)) - 1))
    }

    /// Reads exactly 12 characters of the alphabet; `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::CHARS {
            return None;
        }
        let digits = text.iter().map(|&byte| match byte {
            b'a'..=b'z' => Some(byte - b'a'),
            b'2'..=b'7' => Some(byte - b'2' + 26),
            _ => None,
        });
        digits
            .into_iter()
            .try_fold(0, |bits, digit| Some(bits << BITS | u64::from(digit?)))
            .map(Self)
    }

    /// The bits of the id, the lowest 60.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::CHARS];
        let mut bits = self.0;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(bits & 31) as usize];
            bits >>= BITS;
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        Self::parse(text.as_bytes())
            .ok_or_else(|| D::Error::custom("a key's id has 12 characters of a-z and 2-7"))
    }
}
