//! `access.toml`: who always passes and who never does.

use crate::keys::KeyId;
use crate::network;
use crate::read::{Read, Section, printable};
use crate::units::unix_seconds;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which list an entry is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Exempt from limits.
    Allow,
    /// Answered with 403.
    Deny,
}

impl List {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Deny];

    /// As in `access.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address, or a network of them. No IPv4-mapped IPv6.
    Address(IpNet),
    /// The holder of a key.
    Key(KeyId),
}

impl Target {
    /// Reads an address, a network or the id of a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(id) = KeyId::parse(text.trim().as_bytes()) {
            return Ok(Self::Key(id));
        }
        if text.trim().starts_with(crate::keys::PREFIX) {
            return Err("name the key by its id alone, the 12 characters after psk_".into());
        }
        network::parse(text).map(Self::Address).map_err(|_| {
            format!(
                "\"{}\" is no address, network or id of a key; write \"203.0.113.7\", \
                 \"203.0.113.0/24\", or an id as `keys list` shows it",
                printable(text)
            )
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(network) => f.write_str(&network::plain(network)),
            Self::Key(id) => write!(f, "{id}"),
        }
    }
}

/// One entry of a list. Has a form in JSON, too: `{"list":"deny","address":"203.0.113.0/24"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Entry {
    /// On which list.
    pub list: List,
    /// About whom.
    pub target: Target,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// From when on it does not count, seconds since 1970.
    pub expires: Option<i64>,
}

impl Entry {
    /// Whether it counts at `now`, seconds since 1970.
    pub fn is_in_force(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    list: List,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, with = "unix_seconds::option", skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

impl From<Entry> for Form {
    fn from(entry: Entry) -> Self {
        let (address, key) = match entry.target {
            Target::Address(network) => (Some(network::plain(&network)), None),
            Target::Key(id) => (None, Some(id)),
        };
        let Entry { list, reason, expires, .. } = entry;
        Self { list, address, key, reason, expires }
    }
}

impl TryFrom<Form> for Entry {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let target = match (form.address, form.key) {
            (Some(address), None) => {
                Target::Address(network::parse(&address).map_err(|(what, _)| what)?)
            }
            (None, Some(id)) => Target::Key(id),
            _ => return Err("an entry has either an address or a key".into()),
        };
        let Form { list, reason, expires, .. } = form;
        Ok(Self { list, target, reason, expires })
    }
}

/// The validated content of `access.toml`, in its order, expired entries too: whether a file is valid
/// does not depend on the time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Access {
    /// All entries of both lists.
    pub entries: Vec<Entry>,
}

pub(super) fn read(file: &Section<'_>) -> Access {
    let lists = List::ALL.into_iter();
    let entries = lists.flat_map(|list| file.entries(list.name(), |entry| read_entry(entry, list)));
    Access { entries: entries.flatten().collect() }
}

fn read_entry(section: &Section<'_>, list: List) -> Option<Entry> {
    let address = section.parsed("address", false, network::parse);
    let key = section.parsed("key", false, key_id);
    let reason = section.parsed("reason", false, |text| Ok(text.to_owned())).unwrap_or_default();
    let expires = section.moment("expires");
    let target = match (section.has("address"), section.has("key")) {
        (true, false) => address.map(Target::Address),
        (false, true) => key.map(Target::Key),
        (both, _) => {
            let what = if both {
                "an entry is about an address or a key, not both"
            } else {
                "an entry is about an address or a key; this one has neither"
            };
            section.problem("", what, Some("write address = \"…\" or key = \"…\"".into()));
            None
        }
    };
    Some(Entry { list, target: target?, reason, expires })
}

fn key_id(text: &str) -> Read<KeyId> {
    KeyId::parse(text.as_bytes()).ok_or_else(|| {
        let message = "this is not the id of a key".to_owned();
        let hint = if text.starts_with(crate::keys::PREFIX) {
            "write the 12 characters after psk_ only, and make a new key: this one is not secret any more"
        } else {
            "an id has 12 characters of a-z and 2-7; `penstock-control keys list` shows them"
        };
        (message, Some(hint.to_owned()))
    })
}
