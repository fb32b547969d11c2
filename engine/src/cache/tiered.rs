//! The cache: memory of this process in front of Redis. One type for every layer.
//!
//! Nothing here fails: where Redis is absent, slow or dead there are fewer hits. Writing to it is nobody's wait.

mod shared;

use super::{CacheKind, Entry, Freshness, Key, Ledger, Mark, Observe, Operation, Tier};
use crate::redis::{Link, Script};
use penstock_config::clock::SharedClock;
use penstock_config::policy::{Layer, Policy};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// While messages of the fleet may be missed, what is remembered is as good as new for so long at most.
const UNHEARD: i64 = 30_000;
/// What an entry costs beside its value and its key, bytes: measured, rounded up.
const OVERHEAD: usize = 208;

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
            value_or_lease: Script::new(shared::VALUE_OR_LEASE),
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
            return None;
        }
        let began = self.clock.now();
        let hit = self.look(key);
        self.took(Operation::GetL1, began);
        self.observer.looked_up(self.kind, Tier::L1, hit.is_some());
        hit
    }

    /// Memory has it and it is not near its end. Counted as nothing.
    pub fn needs_nothing(&self, key: &Key) -> bool {
        self.look(key).is_some_and(|hit| hit.freshness == Freshness::Fresh)
    }

    /// From memory, else from Redis.
    pub async fn get(&self, policy: &Policy, key: &Key) -> Option<Hit<V>> {
        match self.get_local(policy, key) {
            Some(hit) => Some(hit),
            None => self.get_shared(policy, key).await,
        }
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

    /// Forgets what is in memory if the layer is off: nobody will ask for it.
    pub fn forget_if_off(&self, policy: &Policy) {
        if !self.is_on(policy) && !self.memory.is_empty() {
            self.memory.clear();
        }
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

    fn remember(&self, policy: &Policy, key: &Key, entry: Arc<Entry<V>>) {
        let most = self.kind.layer(&policy.cache).memory;
        if self.memory.capacity() != most {
            self.memory.set_capacity(most);
        }
        self.memory.insert(key.text().clone(), entry);
    }

    fn took(&self, operation: Operation, began: Instant) {
        let took = self.clock.now().saturating_duration_since(began);
        self.observer.took(self.kind, operation, took);
    }

    fn now_millis(&self) -> i64 {
        self.clock.unix_micros() / 1_000
    }
}
