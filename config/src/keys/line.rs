//! One line of the file.

use super::id::KeyId;
use super::secret::Hash;
use crate::policy::{Class, Limit};
use crate::units::unix_seconds;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest name of a key. It is in every log line of every request made with it.
pub const MAX_NAME_CHARS: usize = 100;

/// What a line says. Fields this version does not know make it unreadable: they may narrow what the
/// key is good for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Create(Creation),
    Revoke(Revocation),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Creation {
    pub(super) id: KeyId,
    pub(super) name: String,
    /// SHA-256 of the secret's text.
    #[serde(with = "digits")]
    pub(super) hash: Hash,
    #[serde(with = "unix_seconds")]
    pub(super) created: i64,
    #[serde(default, with = "unix_seconds::option", skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<i64>,
    /// Where it may be used from; none: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) networks: Vec<IpNet>,
    /// By the name of the class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) limits: BTreeMap<String, Rate>,
    /// Its requests may ask for answers that are not remembered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) bypass_cache: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub(super) per_minute: u32,
    pub(super) burst: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    pub(super) id: KeyId,
    #[serde(with = "unix_seconds")]
    pub(super) when: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) why: String,
}

/// A hash as hexadecimal digits.
mod digits {
    use super::Hash;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let mut hash = Hash::default();
        hex::decode_to_slice(text.as_bytes(), &mut hash).map_err(D::Error::custom)?;
        Ok(hash)
    }
}

impl Line {
    /// Reads a line without its end; the error is a clause that names no content.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let line: Self = serde_json::from_slice(bytes).map_err(|error| {
            let kind = match error.classify() {
                serde_json::error::Category::Eof => "the line breaks off",
                serde_json::error::Category::Syntax => "the line is not JSON",
                _ => "the line is no creation or revocation of a key",
            };
            kind.to_owned()
        })?;
        if let Self::Create(creation) = &line {
            creation.check()?;
        }
        Ok(line)
    }

    /// The line with its end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec(self).expect("our own types have string keys and no failing fields");
        bytes.push(b'\n');
        bytes
    }
}

impl Creation {
    pub(super) fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        for (class, rate) in &self.limits {
            if Class::ALL.iter().all(|known| known.name() != class) {
                let names: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
                return Err(format!("limits are for one of {}", names.join(", ")));
            }
            check_limit(rate.per_minute, rate.burst)?;
        }
        Ok(())
    }
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    let chars = name.chars().count();
    if name.trim().is_empty() || chars > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(format!("a key's name has 1 to {MAX_NAME_CHARS} printable characters"));
    }
    Ok(())
}

/// Whether a limit keeps the bounds of `limits.toml`; the error says what to write.
pub fn check_limit(per_minute: u32, burst: u32) -> Result<(), String> {
    let within = |value: u32, most: usize| (1..=most).contains(&(value as usize));
    if !within(per_minute, Limit::MOST_PER_MINUTE) || !within(burst, Limit::MOST_BURST) {
        return Err("per minute must be from 1 to 60000 and burst from 1 to 65535".into());
    }
    let least = Limit::least_burst(per_minute);
    if burst < least {
        return Err(format!(
            "with {per_minute} a minute the burst must be {least} or more, or the rate is never reached"
        ));
    }
    Ok(())
}
