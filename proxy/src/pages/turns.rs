//! One fetch of a page at a time, and pages for which waiting in line is of no use.

use super::freshness::is_passing;
use super::store::Store;
use pingora::cache::lock::{CacheKeyLock, CacheLock, LockStatus, Locked, WritePermit};
use pingora::cache::predictor::{CacheablePredictor, Predictor};
use pingora::cache::{CacheKey, NoCacheReason, key::CacheHashKey};
use std::time::Duration;

/// A fetch that takes longer is not waited for any more: the next request in line begins its own. The
/// client that caused it may be a slow reader.
const LONGEST_FETCH: Duration = Duration::from_secs(3);
/// Nobody waits in line longer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Fetches of others that came to nothing after which a request begins its own.
pub const MOST_TURNS: usize = 4;
/// Pages that are remembered as not to be kept, in each of the parts.
const REMEMBERED: usize = 1_024;

/// The line before each page.
pub struct Turns(CacheLock);

impl Turns {
    /// Nobody waits.
    pub fn new() -> Self {
        Self(CacheLock::new(LONGEST_FETCH))
    }
}

impl CacheKeyLock for Turns {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        self.0.lock(key, stale_writer)
    }

    fn release(&self, key: &CacheKey, permit: WritePermit, reason: LockStatus) {
        self.0.release(key, permit, reason);
    }

    fn custom_lock_status(&self, why: &'static str) -> LockStatus {
        // One request's wish or one failure does not send everybody to the application.
        if is_passing(why) { LockStatus::TransientError } else { LockStatus::GiveUp }
    }
}

/// Pages whose latest answer was not to be kept: their requests do not wait for each other. One that is
/// kept all the same is looked up.
pub struct Unkept {
    pages: Predictor<16>,
    store: &'static Store,
}

impl Unkept {
    /// None is known.
    pub fn new(store: &'static Store) -> Self {
        Self { pages: Predictor::new(REMEMBERED, Some(is_passing)), store }
    }
}

impl CacheablePredictor for Unkept {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        self.pages.cacheable_prediction(key) || self.store.has(&key.primary_bin())
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.pages.predicted_uncacheable_reason(key)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.pages.mark_cacheable(key)
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        self.pages.mark_uncacheable(key, reason)
    }
}
