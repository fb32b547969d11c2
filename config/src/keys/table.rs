//! The keys in force, as an immutable value.
//!
//! A million keys are shared by thousands of small maps: to add a key to a copy, one of them is
//! copied and the others are shared with the table before.

use super::FILE;
use super::id::KeyId;
use super::line::{Creation, Line, Revocation};
use super::secret::{Hash, Presented};
use crate::network;
use crate::policy::{Class, Limit};
use crate::problem::Problem;
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use subtle::ConstantTimeEq;

/// With a million keys, 250 in each: copying one takes microseconds.
const SHARDS: usize = 4_096;
/// Problems that are kept with their words; all are counted.
const PROBLEMS_KEPT: usize = 20;
/// Never expires; never used.
const NEVER: i64 = i64::MAX;
const UNUSED: i64 = i64::MIN;
/// Compared with where there is no such key, so that it takes as long.
const NOBODY: Hash = [0; 32];

/// Limits of a key, by [`Class`]; `None`: those of `limits.toml`.
pub type KeyLimits = [Option<Limit>; Class::ALL.len()];

/// A key of the file. Some 160 bytes with its place in the table.
pub struct Key {
    id: KeyId,
    hash: Hash,
    name: Box<str>,
    created: i64,
    expires: i64,
    used: AtomicI64,
    special: Option<Box<Special>>,
}

/// What few keys have.
#[derive(Debug, Clone, Default)]
struct Special {
    networks: Vec<IpNet>,
    limits: KeyLimits,
    revoked: Option<Revoked>,
    bypass_cache: bool,
}

/// When and why a key was taken out of force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Seconds since 1970; `None`: by a damaged line that names it.
    pub when: Option<i64>,
    /// In the operator's words.
    pub why: String,
}

/// Why a key that was presented is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No key has this id.
    Unknown,
    /// The id is a key's, the secret is not.
    WrongSecret,
    /// Taken out of force.
    Revoked,
    /// Its time is over.
    Expired,
    /// Good, but not from this address.
    Network,
}

impl Key {
    fn of(creation: Creation) -> Self {
        let mut limits = KeyLimits::default();
        for class in Class::ALL {
            limits[class as usize] = creation
                .limits
                .get(class.name())
                .map(|rate| Limit { per_minute: rate.per_minute, burst: rate.burst });
        }
        let networks: Vec<_> = creation.networks.into_iter().map(network::canonical).collect();
        let bypass_cache = creation.bypass_cache;
        let plain = networks.is_empty() && limits.iter().all(Option::is_none) && !bypass_cache;
        let special = Special { networks, limits, revoked: None, bypass_cache };
        Self {
            id: creation.id,
            hash: creation.hash,
            name: creation.name.into(),
            created: creation.created,
            expires: creation.expires.unwrap_or(NEVER),
            used: AtomicI64::new(UNUSED),
            special: (!plain).then(|| Box::new(special)),
        }
    }

    fn revoke(&self, revoked: Revoked) -> Self {
        let mut special = self.special.clone().unwrap_or_default();
        special.revoked.get_or_insert(revoked);
        Self {
            id: self.id,
            hash: self.hash,
            name: self.name.clone(),
            created: self.created,
            expires: self.expires,
            used: AtomicI64::new(self.used.load(Ordering::Relaxed)),
            special: Some(special),
        }
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What its operator calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was made, seconds since 1970.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// From when on it is not good any more, seconds since 1970.
    pub fn expires(&self) -> Option<i64> {
        (self.expires != NEVER).then_some(self.expires)
    }

    /// Where it may be used from; none: anywhere.
    pub fn networks(&self) -> &[IpNet] {
        self.special.as_deref().map_or(&[], |special| &special.networks)
    }

    /// Its own limits.
    pub fn limits(&self) -> KeyLimits {
        self.special.as_deref().map_or_else(KeyLimits::default, |special| special.limits)
    }

    /// Its requests may ask for answers that are not remembered (`Cache-Control: no-cache`).
    pub fn may_bypass_cache(&self) -> bool {
        self.special.as_deref().is_some_and(|special| special.bypass_cache)
    }

    /// Whether and why it was taken out of force.
    pub fn revoked(&self) -> Option<&Revoked> {
        self.special.as_deref()?.revoked.as_ref()
    }

    /// When it was last used, seconds since 1970, as far as is known here.
    pub fn last_used(&self) -> Option<i64> {
        let used = self.used.load(Ordering::Relaxed);
        (used != UNUSED).then_some(used)
    }

    /// Notes a use at `now` (seconds since 1970); `false`: a later one, or this, was known.
    pub fn use_at(&self, now: i64) -> bool {
        // Looked at first: a busy key's cache line is written once a second only.
        self.used.load(Ordering::Relaxed) < now && self.used.fetch_max(now, Ordering::Relaxed) < now
    }

    fn judge(&self, address: IpAddr, now: i64) -> Result<(), Refusal> {
        if self.revoked().is_some() {
            return Err(Refusal::Revoked);
        }
        if now >= self.expires {
            return Err(Refusal::Expired);
        }
        let address = address.to_canonical();
        let networks = self.networks();
        if !networks.is_empty() && !networks.iter().any(|network| network.contains(&address)) {
            return Err(Refusal::Network);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

type Shard = HashMap<KeyId, Arc<Key>>;

/// All keys of the file. A copy is cheap and shares them.
#[derive(Debug, Clone)]
pub struct Table {
    shards: Vec<Arc<Shard>>,
    len: usize,
    /// Ids that were revoked and are no key: a line that creates them later opens nothing.
    dead: Arc<HashSet<KeyId>>,
    /// What an earlier state of the same file had revoked, whatever this one says.
    inherited: Arc<HashMap<KeyId, Revoked>>,
    bad_lines: usize,
    problems: Arc<Vec<Problem>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: vec![Arc::default(); SHARDS],
            len: 0,
            dead: Arc::default(),
            inherited: Arc::default(),
            bad_lines: 0,
            problems: Arc::default(),
        }
    }
}

impl Table {
    /// Keys, revoked and expired ones too.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lines that say nothing, because they are damaged or contradict an earlier one.
    pub fn bad_lines(&self) -> usize {
        self.bad_lines
    }

    /// The first of the bad lines, with their place in the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// A key by its id.
    pub fn get(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.shards[shard_of(id)].get(&id)
    }

    /// Every key, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// Notes when keys were used (seconds since 1970), as another table or a file knows it.
    pub fn note_uses(&self, used: impl IntoIterator<Item = (KeyId, i64)>) {
        for (id, at) in used {
            if let Some(key) = self.get(id) {
                key.use_at(at);
            }
        }
    }

    /// When keys were last used, as far as is known here.
    pub fn uses(&self) -> impl Iterator<Item = (KeyId, i64)> {
        self.iter().filter_map(|key| Some((key.id(), key.last_used()?)))
    }

    /// Judges a key presented from `address` at `now` (seconds since 1970). With a refusal comes the
    /// key it is about, where the secret proved that it is that key's holder who asks.
    ///
    /// Takes as long for an id that exists as for one that does not.
    pub fn judge(
        &self,
        presented: &Presented<'_>,
        address: IpAddr,
        now: i64,
    ) -> Result<&Arc<Key>, (Refusal, Option<&Arc<Key>>)> {
        let hash = presented.hash();
        let key = self.get(presented.id);
        let expected = key.map_or(&NOBODY, |key| &key.hash);
        let same = bool::from(hash.ct_eq(expected));
        match key {
            None => Err((Refusal::Unknown, None)),
            Some(_) if !same => Err((Refusal::WrongSecret, None)),
            Some(key) => key.judge(address, now).map(|()| key).map_err(|why| (why, Some(key))),
        }
    }

    /// An empty table of a file that is written anew in place: the line that revoked a key may come last, or
    /// minutes later, so what was revoked in `before` stays so. Not what a damaged line took out of force: to
    /// repair the line is to undo that.
    pub(super) fn after(before: &Self) -> Self {
        let mut inherited = Arc::clone(&before.inherited);
        let revoked = before.iter().filter_map(|key| {
            let revoked = key.revoked().filter(|revoked| revoked.when.is_some())?;
            Some((key.id, revoked.clone()))
        });
        Arc::make_mut(&mut inherited).extend(revoked);
        Self { inherited, ..Self::default() }
    }

    /// Takes in one line of the file, `number` from 1.
    pub(super) fn apply(&mut self, number: u64, line: &[u8]) {
        match Line::parse(line) {
            Ok(Line::Create(creation)) => self.create(number, creation),
            Ok(Line::Revoke(revocation)) => self.revoke(number, revocation),
            Err(what) => {
                for id in ids_in(line) {
                    let why = format!("named by line {number}, which cannot be read");
                    self.close(id, Revoked { when: None, why });
                }
                self.problem(number, what, "the keys it names are not in force; remove it");
            }
        }
    }

    fn create(&mut self, number: u64, creation: Creation) {
        let id = creation.id;
        if self.get(id).is_some() {
            let what = format!("key {id} is created a second time");
            return self.problem(number, what, "the first one stands; remove this line");
        }
        if self.dead.contains(&id) {
            let what = format!("key {id} is created after it was revoked");
            return self.problem(number, what, "it stays revoked; make another key");
        }
        let key = Key::of(creation);
        let key = match self.inherited.get(&id) {
            Some(revoked) => key.revoke(revoked.clone()),
            None => key,
        };
        Arc::make_mut(&mut self.shards[shard_of(id)]).insert(id, Arc::new(key));
        self.len += 1;
    }

    fn revoke(&mut self, number: u64, revocation: Revocation) {
        let Revocation { id, when, why } = revocation;
        if !self.close(id, Revoked { when: Some(when), why }) {
            let what = format!("key {id} is revoked and was never created");
            self.problem(number, what, "check the id");
        }
    }

    /// Takes a key out of force for good; `false`: there is none.
    fn close(&mut self, id: KeyId, revoked: Revoked) -> bool {
        let Some(key) = self.get(id) else {
            Arc::make_mut(&mut self.dead).insert(id);
            return false;
        };
        let key = Arc::new(key.revoke(revoked));
        Arc::make_mut(&mut self.shards[shard_of(id)]).insert(id, key);
        true
    }

    fn problem(&mut self, number: u64, what: String, advice: &str) {
        self.bad_lines += 1;
        if self.problems.len() < PROBLEMS_KEPT {
            let mut problem = Problem::of_file(FILE, what).suggest(advice);
            problem.line = u32::try_from(number).ok();
            Arc::make_mut(&mut self.problems).push(problem);
        }
    }
}

fn shard_of(id: KeyId) -> usize {
    // Ids are random.
    id.bits() as usize % SHARDS
}

/// Whatever has the form of an id in a line that makes no sense.
fn ids_in(line: &[u8]) -> impl Iterator<Item = KeyId> {
    line.split(|byte| !byte.is_ascii_alphanumeric()).filter_map(KeyId::parse)
}
