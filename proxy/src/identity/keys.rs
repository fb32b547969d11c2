//! API keys: which are in force, who presented one, when each was last used.
//!
//! The table is an immutable value; requests load it and wait for nobody. A thread looks at the file
//! five times a second and publishes what changed. While the file cannot be read, the last table
//! stays in force, and the status says so.

use super::credential::{self, Carried};
use crate::respond::{Kind, Problem};
use arc_swap::ArcSwap;
use http::HeaderMap;
use penstock_config::clock::SharedClock;
use penstock_config::keys::{
    Follower, Key, KeyId, KeyLimits, Presented, Refusal, Table, USED_FILE, read_used, write_used,
};
use penstock_config::units::rfc3339;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks at the file: a key is in force a quarter of a second after it was made.
const LOOK: Duration = Duration::from_millis(200);
/// Between two notes of when keys were used: what a crash costs.
const NOTE: Duration = Duration::from_secs(30);

/// A key that was presented and is good: its id and its name in records, never its secret.
#[derive(Debug, Clone)]
pub struct Keyed(Arc<Key>);

impl Keyed {
    /// Its id.
    pub fn id(&self) -> KeyId {
        self.0.id()
    }

    /// What its operator calls it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// It may ask for answers that are not remembered.
    pub fn may_bypass_cache(&self) -> bool {
        self.0.may_bypass_cache()
    }

    /// Its own limits by class; `None`: those of `limits.toml`.
    pub fn limits(&self) -> KeyLimits {
        self.0.limits()
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Keyed {}

impl Serialize for Keyed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut shown = to.serialize_struct("Keyed", 2)?;
        shown.serialize_field("id", &self.id())?;
        shown.serialize_field("name", self.name())?;
        shown.end()
    }
}

/// Why what was presented is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It does not have the form of a key.
    Malformed,
    /// Several that differ.
    Ambiguous,
    /// No key has this id.
    Unknown,
    /// The id is a key's, the secret is not.
    WrongSecret,
    /// Its time is over.
    Expired,
    /// It was taken out of force.
    Revoked,
    /// Good, but not from this address.
    Network,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::Ambiguous,
        Self::Unknown,
        Self::WrongSecret,
        Self::Expired,
        Self::Revoked,
        Self::Network,
    ];

    /// As in metrics and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::Unknown => "unknown",
            Self::WrongSecret => "wrong_secret",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Network => "network",
        }
    }
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self::Unknown,
            Refusal::WrongSecret => Self::WrongSecret,
            Refusal::Revoked => Self::Revoked,
            Refusal::Expired => Self::Expired,
            Refusal::Network => Self::Network,
        }
    }
}

/// A key that was presented and is not good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedKey {
    /// Why.
    pub why: Why,
    /// The id that was written, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<KeyId>,
    /// The key's name, where whoever asked knows its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
}

impl RefusedKey {
    fn of(why: Why) -> Self {
        Self { why, id: None, name: None }
    }

    /// The answer. Who does not know a key's secret learns nothing about it, not even that it exists.
    pub fn problem(&self) -> Problem {
        let detail = match self.why {
            Why::Malformed => "this is no key of this service; send a whole one, or none",
            Why::Ambiguous => "the request carries several different keys; send one",
            Why::Unknown | Why::WrongSecret => "the key is not known; check that it is whole",
            Why::Expired => "the key has expired; ask for a new one",
            Why::Revoked => "the key was revoked; ask for a new one",
            Why::Network => {
                let detail = "the key may not be used from this address";
                return Problem::new(Kind::KeyNotAllowedHere, detail);
            }
        };
        Problem::new(Kind::Unauthorized, detail)
    }
}

/// What a request's key is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// It carries none.
    None,
    /// It is good.
    Valid(Keyed),
    /// It is not.
    Refused(RefusedKey),
}

/// Keys as the status page tells.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeysStatus {
    /// In the file, revoked and expired ones too.
    pub keys: usize,
    /// Lines that cannot be used.
    pub problems: usize,
    /// The first of them.
    pub first_problems: Vec<String>,
    /// When the file was last read, RFC 3339.
    pub loaded: String,
    /// Why it cannot be read now; the keys read before stay in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The keys of this process.
#[derive(Debug)]
pub struct Keys {
    table: ArcSwap<Table>,
    follower: Mutex<Follower>,
    note: Mutex<Note>,
    used_file: PathBuf,
    /// Some key was used since that was last written down.
    unwritten: AtomicBool,
    clock: SharedClock,
}

#[derive(Debug, Default)]
struct Note {
    loaded_micros: i64,
    error: Option<String>,
}

impl Keys {
    /// Reads the keys of the policy folder, and from the data folder when they were used. A file that
    /// cannot be read is told, and means that no key is known.
    pub fn open(policy_dir: &Path, data_dir: &Path, clock: SharedClock) -> Self {
        let mut follower = Follower::new(policy_dir);
        let loaded = follower.load();
        let error = loaded.as_ref().err().map(ToString::to_string);
        let keys = Self {
            table: ArcSwap::from_pointee(loaded.unwrap_or_default()),
            follower: Mutex::new(follower),
            note: Mutex::new(Note { loaded_micros: clock.unix_micros(), error }),
            used_file: data_dir.join(USED_FILE),
            unwritten: AtomicBool::new(false),
            clock,
        };
        keys.tell();
        match read_used(&keys.used_file) {
            Ok(used) => keys.table.load().note_uses(used),
            Err(error) => tracing::warn!(%error, "when keys were last used cannot be read"),
        }
        keys
    }

    /// Follows the file, and notes when keys are used, for as long as somebody holds the keys.
    pub fn follow(self: &Arc<Self>) -> io::Result<()> {
        let held = Arc::downgrade(self);
        let run = move || {
            let mut noted = None;
            loop {
                std::thread::sleep(LOOK);
                let Some(keys) = held.upgrade() else { return };
                keys.look();
                let now = keys.clock.now();
                if now - *noted.get_or_insert(now) >= NOTE {
                    keys.write_used();
                    noted = Some(now);
                }
            }
        };
        std::thread::Builder::new().name("keys".into()).spawn(run).map(drop)
    }

    /// Looks at the file once and puts in force what changed.
    pub fn look(&self) {
        let before = self.table.load_full();
        let looked = self.follower.lock().unwrap_or_else(PoisonError::into_inner).look(&before);
        let error = match looked {
            Ok(None) => None,
            Ok(Some(table)) => {
                let table = Arc::new(table);
                self.table.store(table.clone());
                self.note().loaded_micros = self.clock.unix_micros();
                self.tell();
                // After the swap, so that no use between is lost.
                table.note_uses(before.uses());
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let mut note = self.note();
        if note.error != error {
            match &error {
                Some(error) => tracing::error!("{error}"),
                None => tracing::info!("the keys can be read again"),
            }
            note.error = error;
        }
    }

    fn tell(&self) {
        let table = self.table.load();
        tracing::info!(keys = table.len(), bad_lines = table.bad_lines(), "keys in force");
        for problem in table.problems() {
            tracing::warn!(%problem, "keys");
        }
        if let Some(error) = &self.note().error {
            tracing::error!("{error}");
        }
    }

    fn note(&self) -> MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges what a request from `address` carries. `ours`: it is for one of our endpoints.
    pub fn judge(&self, headers: &HeaderMap, ours: bool, address: IpAddr) -> Credential {
        let text = match credential::find(headers, ours) {
            Carried::Nothing => return Credential::None,
            Carried::Several => return Credential::Refused(RefusedKey::of(Why::Ambiguous)),
            Carried::One(text) => text,
        };
        let Some(presented) = Presented::parse(text) else {
            return Credential::Refused(RefusedKey::of(Why::Malformed));
        };
        let now = self.clock.unix_seconds();
        match self.table.load().judge(&presented, address, now) {
            Ok(key) => {
                if key.use_at(now) {
                    self.unwritten.store(true, Ordering::Relaxed);
                }
                Credential::Valid(Keyed(key.clone()))
            }
            Err((why, key)) => Credential::Refused(RefusedKey {
                why: why.into(),
                id: Some(presented.id),
                name: key.map(|key| key.name().into()),
            }),
        }
    }

    /// Writes down when keys were used, if any was since the last time.
    pub fn write_used(&self) {
        if !self.unwritten.swap(false, Ordering::Relaxed) {
            return;
        }
        let table = self.table.load();
        if let Err(error) = write_used(&self.used_file, table.uses()) {
            self.unwritten.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "when keys were last used cannot be written down");
        }
    }

    /// For the status page and the gauges.
    pub fn status(&self) -> KeysStatus {
        let table = self.table.load();
        let note = self.note();
        KeysStatus {
            keys: table.len(),
            problems: table.bad_lines(),
            first_problems: table.problems().iter().map(ToString::to_string).collect(),
            loaded: rfc3339(note.loaded_micros),
            error: note.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
