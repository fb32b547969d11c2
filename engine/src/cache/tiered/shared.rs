//! The second tier: what goes to Redis and comes from it.

use super::{Cached, Found, Hit, Tiered};
use crate::cache::codec::{decode, encode};
use crate::cache::{Entry, Key, Mark, Operation, Tier};
use crate::redis::{Link, Trouble, cmd, pipe};
use penstock_config::policy::Policy;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Twice what the policy allows for a life and for what follows it.
const LONGEST_LIFE: Duration = Duration::from_secs(28 * 24 * 3_600);
/// Values that are being written to Redis at once; more are not written.
const MOST_WRITES: usize = 256;
/// Between two looks for what another instance computes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// KEYS: a value and the lease on computing it. ARGV: for how many milliseconds. The value; or 1, the
/// lease is given; or 2, somebody else has it.
pub(super) const VALUE_OR_LEASE: &str = "
local value = redis.call('GET', KEYS[1])
if value then return {0, value} end
if redis.call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[1]) then return {1, ''} end
return {2, ''}";

impl<V: Cached> Tiered<V> {
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
        let args = [lease.as_millis().to_string()];
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
        let looking = async {
            loop {
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
        };
        tokio::time::timeout(patience, looking).await.ok().flatten()
    }

    /// Gives a lease back that came to nothing others could use; in the background.
    pub fn release(&self, policy: &Policy, key: &Key) {
        let (Some(link), Ok(runtime)) =
            (self.shared(policy).cloned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let mut delete = cmd("DEL");
        delete.arg(lease_on(&link.key(&key.in_redis())));
        let resilience = policy.resilience.clone();
        runtime.spawn(async move { link.call::<u64>(&resilience, &delete).await });
    }

    /// Redis, where it is the second tier now.
    pub(super) fn shared(&self, policy: &Policy) -> Option<&Arc<Link>> {
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
        let now = self.now_millis();
        if entry.lives.left(now) > LONGEST_LIFE {
            // By a clock that is wrong, or by nobody of ours.
            return None;
        }
        let freshness = entry.lives.at(now)?;
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

    /// Writes in the background.
    pub(super) fn write(&self, policy: &Policy, key: &Key, entry: Arc<Entry<V>>) {
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
