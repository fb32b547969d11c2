//! Counts over the last minute, in a ring of buckets.
//!
//! Every count carries the stamp of what it counts (the breaker's generation and the five seconds
//! it belongs to), so that one is never cleared: a count with an old stamp is zero. A call that is
//! held up between reading the stamp and adding may count five seconds too late; nothing is lost
//! and nothing waits.

use super::sync::{AtomicU64, Ordering};

/// Five seconds: what leaves the window leaves in twelfths.
pub const BUCKET_MS: u64 = 5_000;
/// A minute of buckets, the youngest of them not yet full.
pub const BUCKETS: u64 = 12;
/// So that an epoch of 60 days and a generation of 4,096 fit half a word.
const EPOCH_BITS: u32 = 20;
const GENERATION_BITS: u32 = 12;

/// A count that is zero for every stamp but its own.
#[derive(Debug)]
pub struct Stamped(AtomicU64);

impl Stamped {
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn get(&self, stamp: u32) -> u32 {
        let word = self.0.load(Ordering::Acquire);
        if stamp_of(word) == stamp { word as u32 } else { 0 }
    }

    /// One more; the new count.
    pub fn add(&self, stamp: u32) -> u32 {
        let word = self.0.load(Ordering::Acquire);
        if stamp_of(word) == stamp && (word as u32) < u32::MAX / 2 {
            return self.0.fetch_add(1, Ordering::AcqRel) as u32 + 1;
        }
        self.replace(stamp, |count| count.saturating_add(1).min(u32::MAX / 2))
    }

    /// Back to zero; costs a load where it is zero already.
    pub fn reset(&self, stamp: u32) {
        if self.get(stamp) != 0 {
            self.replace(stamp, |_| 0);
        }
    }

    fn replace(&self, stamp: u32, change: impl Fn(u32) -> u32) -> u32 {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let count = change(if stamp_of(word) == stamp { word as u32 } else { 0 });
            let next = u64::from(stamp) << 32 | u64::from(count);
            match self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return count,
                Err(current) => word = current,
            }
        }
    }
}

fn stamp_of(word: u64) -> u32 {
    (word >> 32) as u32
}

#[derive(Debug)]
struct Bucket {
    calls: Stamped,
    failures: Stamped,
    slow: Stamped,
}

/// What was counted in the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls with a verdict.
    pub calls: u32,
    /// Of these, how many failed.
    pub failures: u32,
    /// Of these, how many were slow, whether they failed or not.
    pub slow: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Window {
    ring: [Bucket; BUCKETS as usize],
}

impl Window {
    pub fn new() -> Self {
        Self {
            ring: std::array::from_fn(|_| Bucket {
                calls: Stamped::new(),
                failures: Stamped::new(),
                slow: Stamped::new(),
            }),
        }
    }

    pub fn add(&self, generation: u64, now: u64, failed: bool, slow: bool) {
        let epoch = now / BUCKET_MS;
        let stamp = stamp(generation, epoch);
        let bucket = &self.ring[(epoch % BUCKETS) as usize];
        bucket.calls.add(stamp);
        if failed {
            bucket.failures.add(stamp);
        }
        if slow {
            bucket.slow.add(stamp);
        }
    }

    pub fn sum(&self, generation: u64, now: u64) -> Counts {
        let latest = now / BUCKET_MS;
        let mut sum = Counts::default();
        for epoch in latest.saturating_sub(BUCKETS - 1)..=latest {
            let stamp = stamp(generation, epoch);
            let bucket = &self.ring[(epoch % BUCKETS) as usize];
            sum.calls = sum.calls.saturating_add(bucket.calls.get(stamp));
            sum.failures = sum.failures.saturating_add(bucket.failures.get(stamp));
            sum.slow = sum.slow.saturating_add(bucket.slow.get(stamp));
        }
        sum
    }
}

fn stamp(generation: u64, epoch: u64) -> u32 {
    let generation = generation & ((1 << GENERATION_BITS) - 1);
    // The epoch from one: an empty word is the stamp of no time at all.
    let epoch = (epoch + 1) & ((1 << EPOCH_BITS) - 1);
    (generation << EPOCH_BITS | epoch) as u32
}
