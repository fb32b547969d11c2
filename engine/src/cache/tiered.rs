//! The cache: memory of this process in front of Redis. One type for every layer.
//!
//! Nothing here fails: where Redis is absent, slow or dead there are fewer hits. Writing to it is nobody's wait.

use super::codec::{decode, encode};
use super::{CacheKind, Entry, Freshness, Key, Ledger, Mark, Observe, Operation, Tier};
use crate::redis::{Link, Script, Trouble, cmd, pipe};
use penstock_config::clock::SharedClock;
use penstock_config::policy::{Layer, Policy};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Values that are being written to Redis at once; more are not written.
const MOST_WRITES: usize = 256;
/// While messages of the fleet may be missed, what is remembered is as good as new for so long at most.
const UNHEARD: i64 = 30_000;
/// Between two looks for what another instance computes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What an entry costs beside its value and its key, bytes: measured, rounded up.
const OVERHEAD: usize = 208;

/// KEYS: a value and the lease on computing it. ARGV: who asks, and for how many milliseconds. The value; or 1, the
/// lease is given; or 2, somebody else has it.
const VALUE_OR_LEASE: &str = "
local value = redis.call('GET', KEYS[1])
if value then return {0, value} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {1, ''} end
return {2, ''}";

/// What can be remembered.
pub trait Cached: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Bytes of memory, beside `size_of::<Self>()` and more or less.
    fn weight(&self) -> usize;
}

/// Something remembered that holds.
#[derive(Debug)]
pub struct Hit<V> {
    /// It.
    pub entry: Arc<Entry<V>>,
    /// Where it was.
    pub tier: Tier,
    /// How good it is.
    pub freshness: Freshness,
}

impl<V> Clone for Hit<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), tier: self.tier, freshness: self.freshness }
    }
}

/// What became of asking Redis for a value or the lease on computing it.
#[derive(Debug)]
pub enum Found<V> {
    /// It is there.
    Hit(Hit<V>),
    /// It is not, and whoever asked computes it.
    Mine,
    /// It is not, and another instance computes it.
    Elsewhere,
}

#[derive(Debug, Clone, Copy)]
struct Weigh;

impl<V: Cached> Weighter<Arc<str>, Arc<Entry<V>>> for Weigh {
    fn weight(&self, key: &Arc<str>, entry: &Arc<Entry<V>>) -> u64 {
        let tags = 8 * entry.tags.products.len();
        (OVERHEAD + size_of::<V>() + key.len() + tags + entry.value.weight()) as u64
    }
}

/// See the module.
pub struct Tiered<V: Cached> {
    kind: CacheKind,
    memory: Cache<Arc<str>, Arc<Entry<V>>, Weigh>,
    link: Option<Arc<Link>>,
    ledger: Arc<Ledger>,
    clock: SharedClock,
    observer: Arc<dyn Observe>,
    value_or_lease: Script,
    writing: Arc<AtomicUsize>,
}

impl<V: Cached> Tiered<V> {
    /// An empty one; without `link` memory is all there is. How much it may hold is `layer`'s, and follows the
    /// policy that comes with each value.
    pub fn new(
        kind: CacheKind,
        layer: Layer,
        link: Option<Arc<Link>>,
        ledger: Arc<Ledger>,
        clock: SharedClock,
        observer: Arc<dyn Observe>,
    ) -> Self {
        /// Places are made as they are needed; the guess only saves moving.
        const FIRST_PLACES: usize = 1_024;
        Self {
            kind,
            memory: Cache::with_weighter(FIRST_PLACES, layer.memory, Weigh),
            link,
            ledger,
            clock,
            observer,
            value_or_lease: Script::new(VALUE_OR_LEASE),
            writing: Arc::default(),
        }
    }

    /// The layer.
    pub fn kind(&self) -> CacheKind {
        self.kind
    }

    /// Whether `policy` has it on.
    pub fn is_on(&self, policy: &Policy) -> bool {
        policy.cache.enabled && self.kind.layer(&policy.cache).enabled
    }

    /// For work that begins now on this revision of the catalogue, and may end in a value.
    pub fn mark(&self, revision: u64) -> Mark {
        self.ledger.mark(revision)
    }

    /// From memory.
    pub fn get_local(&self, policy: &Policy, key: &Key) -> Option<Hit<V>> {
        if !self.is_on(policy) {
            if !self.memory.is_empty() {
                self.memory.clear();
            }
            return None;
        }
        let began = self.clock.now();
        let hit = self.look(key);
        self.took(Operation::GetL1, began);
        self.observer.looked_up(self.kind, Tier::L1, hit.is_some());
        hit
    }

    /// Memory has it and it is not near its end. Counted as nothing.
    pub fn is_fresh(&self, key: &Key) -> bool {
        self.look(key).is_some_and(|hit| hit.freshness == Freshness::Fresh)
    }

    /// From memory, else from Redis.
    pub async fn get(&self, policy: &Policy, key: &Key) -> Option<Hit<V>> {
        match self.get_local(policy, key) {
            Some(hit) => Some(hit),
            None => self.get_shared(policy, key).await,
        }
    }

    /// From memory, and what is not there from Redis in one round trip; in the order of `keys`.
    pub async fn get_many(&self, policy: &Policy, keys: &[Key]) -> Vec<Option<Hit<V>>> {
        let mut found: Vec<_> = keys.iter().map(|key| self.get_local(policy, key)).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|&at| found[at].is_none()).collect();
        let Some(link) = self.shared(policy).filter(|_| !missing.is_empty()) else {
            return found;
        };
        let mut command = cmd("MGET");
        for &at in &missing {
            command.arg(link.key(&keys[at].in_redis()));
        }
        let (known, began) = (self.ledger.mark(0), self.clock.now());
        let read: Result<Vec<Option<Vec<u8>>>, Trouble> =
            link.call(&policy.resilience, &command).await;
        self.took(Operation::GetL2, began);
        let values = read.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
        for (at, bytes) in missing.into_iter().zip(values) {
            found[at] = bytes.and_then(|bytes| self.adopt(policy, &keys[at], &bytes, known));
            self.observer.looked_up(self.kind, Tier::L2, found[at].is_some());
        }
        found
    }

    /// From Redis; taken over into memory.
    pub async fn get_shared(&self, policy: &Policy, key: &Key) -> Option<Hit<V>> {
        let link = self.shared(policy)?;
        let mut command = cmd("GET");
        command.arg(link.key(&key.in_redis()));
        let (known, began) = (self.ledger.mark(0), self.clock.now());
        let read: Result<Option<Vec<u8>>, Trouble> = link.call(&policy.resilience, &command).await;
        self.took(Operation::GetL2, began);
        let hit = read.ok().flatten().and_then(|bytes| self.adopt(policy, key, &bytes, known));
        self.observer.looked_up(self.kind, Tier::L2, hit.is_some());
        hit
    }

    /// From Redis, or the lease on computing it for the whole fleet. Where Redis does not answer everybody
    /// computes.
    pub async fn get_or_lease(&self, policy: &Policy, key: &Key, lease: Duration) -> Found<V> {
        let Some(link) = self.shared(policy) else {
            return Found::Mine;
        };
        if lease.is_zero() {
            return self.get_shared(policy, key).await.map_or(Found::Mine, Found::Hit);
        }
        let value = link.key(&key.in_redis());
        let keys = [value.clone(), lease_on(&value)];
        let args = ["1".to_owned(), lease.as_millis().to_string()];
        let (known, began) = (self.ledger.mark(0), self.clock.now());
        let answer: Result<(u8, Vec<u8>), Trouble> =
            link.script(&policy.resilience, &self.value_or_lease, &keys, &args).await;
        self.took(Operation::GetL2, began);
        let found = match answer {
            // One that is outdated: whoever comes first puts another in its place.
            Ok((0, bytes)) => {
                self.adopt(policy, key, &bytes, known).map_or(Found::Mine, Found::Hit)
            }
            Ok((2, _)) => Found::Elsewhere,
            Ok(_) | Err(_) => Found::Mine,
        };
        self.observer.looked_up(self.kind, Tier::L2, matches!(found, Found::Hit(_)));
        found
    }

    /// The lease on computing a value that Redis has, but that is not good enough any more; `false`: another
    /// instance has it. Where Redis does not answer everybody computes.
    pub async fn lease(&self, policy: &Policy, key: &Key, lease: Duration) -> bool {
        let Some(link) = self.shared(policy).filter(|_| !lease.is_zero()) else {
            return true;
        };
        let mut set = cmd("SET");
        set.arg(lease_on(&link.key(&key.in_redis()))).arg("1").arg("NX").arg("PX");
        set.arg(lease.as_millis() as u64);
        let given: Result<Option<String>, Trouble> = link.call(&policy.resilience, &set).await;
        !matches!(given, Ok(None))
    }

    /// Waits until another instance has computed one that is `good`, at most for `patience`.
    pub async fn get_awaited(
        &self,
        policy: &Policy,
        key: &Key,
        patience: Duration,
        good: impl Fn(&Hit<V>) -> bool,
    ) -> Option<Hit<V>> {
        let until = self.clock.now() + patience;
        while self.clock.now() < until {
            tokio::time::sleep(LOOK_AGAIN).await;
            let link = self.shared(policy)?;
            let mut command = cmd("GET");
            command.arg(link.key(&key.in_redis()));
            let known = self.ledger.mark(0);
            let read: Option<Vec<u8>> = link.call(&policy.resilience, &command).await.ok()?;
            let hit = read.and_then(|bytes| self.adopt(policy, key, &bytes, known));
            if let Some(hit) = hit.filter(&good) {
                return Some(hit);
            }
        }
        None
    }

    /// Remembers `entry`, unless what it depends on has changed since its mark. `share`: in Redis, too, some time
    /// later.
    pub fn put(&self, policy: &Policy, key: &Key, entry: Entry<V>, share: bool) -> Arc<Entry<V>> {
        let entry = Arc::new(entry);
        if self.is_on(policy) && self.ledger.holds(key, entry.mark, &entry.tags, Tier::L1) {
            self.remember(policy, key, entry.clone());
            if share {
                self.write(policy, key, entry.clone());
            }
        }
        entry
    }

    /// Whether what was found, or made, under `key` holds still: it may have been waited for.
    pub fn holds(&self, key: &Key, entry: &Entry<V>) -> bool {
        self.ledger.holds(key, entry.mark, &entry.tags, Tier::L1)
    }

    /// Memory has one that can be served, however old. Counted as nothing.
    pub fn has(&self, key: &Key) -> bool {
        self.look(key).is_some()
    }

    /// Forgets what is in memory. Not needed for correctness: notes in the ledger see to that.
    pub fn clear(&self) {
        self.memory.clear();
    }

    /// What memory holds: bytes and entries.
    pub fn held(&self) -> (u64, usize) {
        (self.memory.weight(), self.memory.len())
    }

    fn look(&self, key: &Key) -> Option<Hit<V>> {
        let entry = self.memory.get(key.text())?;
        let now = self.now_millis();
        let freshness = entry.lives.at(now).map(|freshness| self.as_heard(&entry, freshness, now));
        match freshness {
            Some(freshness) if self.ledger.holds(key, entry.mark, &entry.tags, Tier::L1) => {
                Some(Hit { entry, tier: Tier::L1, freshness })
            }
            _ => {
                self.memory.remove_if(key.text(), |held| Arc::ptr_eq(held, &entry));
                None
            }
        }
    }

    /// How good it is for somebody who may have missed a change.
    fn as_heard(&self, entry: &Entry<V>, freshness: Freshness, now: i64) -> Freshness {
        let age = now - entry.lives.made;
        if self.ledger.hears() || age < UNHEARD || matches!(freshness, Freshness::Stale(_)) {
            return freshness;
        }
        Freshness::Stale(Duration::from_millis((age - UNHEARD).unsigned_abs()))
    }

    /// Redis, where it is the second tier now.
    fn shared(&self, policy: &Policy) -> Option<&Arc<Link>> {
        let wanted = policy.cache.shared && self.is_on(policy);
        self.link.as_ref().filter(|_| wanted && self.ledger.hears())
    }

    /// Takes over what Redis had; `known`: what was known here before it was asked.
    fn adopt(&self, policy: &Policy, key: &Key, bytes: &[u8], known: Mark) -> Option<Hit<V>> {
        let mut entry: Entry<V> = match decode(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                // Of another version of this program, most likely; written anew by whoever computes it.
                tracing::debug!(key = %key.text(), %error, "a cached value is not used");
                return None;
            }
        };
        let freshness = entry.lives.at(self.now_millis())?;
        if !self.ledger.holds(key, entry.mark, &entry.tags, Tier::L2) {
            return None;
        }
        entry.mark.seq = known.seq;
        let entry = Arc::new(entry);
        let newer = |held: &Arc<Entry<V>>| held.lives.made > entry.lives.made;
        if !self.memory.peek(key.text()).is_some_and(|held| newer(&held)) {
            self.remember(policy, key, entry.clone());
        }
        Some(Hit { entry, tier: Tier::L2, freshness })
    }

    fn remember(&self, policy: &Policy, key: &Key, entry: Arc<Entry<V>>) {
        let most = self.kind.layer(&policy.cache).memory;
        if self.memory.capacity() != most {
            self.memory.set_capacity(most);
        }
        self.memory.insert(key.text().clone(), entry);
    }

    /// Writes in the background.
    fn write(&self, policy: &Policy, key: &Key, entry: Arc<Entry<V>>) {
        let Some(link) = self.shared(policy).cloned() else {
            return;
        };
        let place = Writing::enter(&self.writing);
        let (Some(place), Ok(runtime)) = (place, tokio::runtime::Handle::try_current()) else {
            self.observer.not_written(self.kind);
            return;
        };
        let name = link.key(&key.in_redis());
        let life = entry.lives.left(self.now_millis()).as_millis() as u64;
        let (resilience, compress_above) = (policy.resilience.clone(), policy.cache.compress_above);
        let (observer, clock, kind) = (self.observer.clone(), self.clock.clone(), self.kind);
        runtime.spawn(async move {
            let began = clock.now();
            let written = match encode(&entry, compress_above) {
                Ok(bytes) if life > 0 => {
                    let mut commands = pipe();
                    commands.cmd("SET").arg(&name).arg(bytes).arg("PX").arg(life).ignore();
                    // Whoever waits finds it; nobody waits for a lease on what is there.
                    commands.cmd("DEL").arg(lease_on(&name)).ignore();
                    link.pipeline::<()>(&resilience, &commands).await.is_ok()
                }
                _ => false,
            };
            observer.took(kind, Operation::PutL2, clock.now().saturating_duration_since(began));
            if !written {
                observer.not_written(kind);
            }
            drop(place);
        });
    }

    fn took(&self, operation: Operation, began: Instant) {
        let took = self.clock.now().saturating_duration_since(began);
        self.observer.took(self.kind, operation, took);
    }

    fn now_millis(&self) -> i64 {
        self.clock.unix_micros() / 1_000
    }
}

/// The key of the lease on computing the value under this one, in the same slot of a cluster.
fn lease_on(value: &str) -> String {
    format!("{value}:lease")
}

/// A place among those that write; given back when it ends.
struct Writing(Arc<AtomicUsize>);

impl Writing {
    fn enter(writing: &Arc<AtomicUsize>) -> Option<Self> {
        let room = |count: usize| (count < MOST_WRITES).then_some(count + 1);
        let entered = writing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        entered.ok().map(|_| Self(writing.clone()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
