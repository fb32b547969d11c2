//! The text of a key.

use super::id::KeyId;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use std::fmt;

/// What every key begins with: tells our keys from the tokens of the shop's application, and lets
/// scanners of source code find one that leaked.
pub const PREFIX: &str = "psk_";
/// 256 bits in hexadecimal digits.
const SECRET_CHARS: usize = 64;

/// SHA-256 of a secret, over its text.
pub(super) type Hash = [u8; 32];

/// A key as somebody presented it, well-formed and not yet judged. Does not show its secret.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The id, which anybody can write.
    pub id: KeyId,
    secret: &'a [u8],
}

impl<'a> Presented<'a> {
    /// Reads `psk_<id>_<secret>`; `None`: this is no key of ours.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX.as_bytes())?;
        let (id, secret) = rest.split_at_checked(KeyId::CHARS)?;
        let secret = secret.strip_prefix(b"_")?;
        let digits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (secret.len() == SECRET_CHARS && secret.iter().all(digits))
            .then_some(Self { id: KeyId::parse(id)?, secret })
    }

    pub(super) fn hash(&self) -> Hash {
        hash(self.secret)
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, …)", self.id)
    }
}

/// A new key: its id, its whole text, the hash that is kept. Randomness is the operating system's.
pub(super) fn generate() -> std::io::Result<(KeyId, String, Hash)> {
    let mut random = [0; 40];
    OsRng.try_fill_bytes(&mut random).map_err(std::io::Error::other)?;
    let (id, secret) = random.split_at(8);
    let id = KeyId::of_bits(id.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte)));
    let secret = hex::encode(secret);
    let hash = hash(secret.as_bytes());
    Ok((id, format!("{PREFIX}{id}_{secret}"), hash))
}

fn hash(secret: &[u8]) -> Hash {
    Sha256::digest(secret).into()
}
