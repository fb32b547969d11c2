//! When something was last known to change, so that replicas which do not have it yet are not asked about it.
//!
//! Nothing has to be kept for longer than a replica that is read from may be behind: two generations of users, the
//! older one dropped when it is that old.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Users of one generation; more, and it is taken for everybody.
const MOST: usize = 500_000;

#[derive(Debug, Default)]
struct Kept {
    young: HashMap<Box<str>, Instant>,
    old: HashMap<Box<str>, Instant>,
    begun: Option<Instant>,
    everybody: Option<Instant>,
    products: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Moments {
    keep: Duration,
    kept: Mutex<Kept>,
}

impl Moments {
    /// `keep`: how far behind a server may be that is read from.
    pub fn new(keep: Duration) -> Self {
        Self { keep, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These users' events were stored not later than now.
    pub fn note_users<'u>(&self, users: impl IntoIterator<Item = &'u str>, now: Instant) {
        let mut kept = self.kept();
        if kept.begun.is_none_or(|begun| now.saturating_duration_since(begun) > self.keep) {
            kept.old = std::mem::take(&mut kept.young);
            kept.begun = Some(now);
        }
        for user in users {
            if kept.young.len() >= MOST {
                kept.young.clear();
                kept.everybody = Some(now);
                return;
            }
            kept.young.insert(user.into(), now);
        }
    }

    /// Anybody's events may have been stored until now.
    pub fn note_everybody(&self, now: Instant) {
        self.kept().everybody = Some(now);
    }

    /// Products were changed not later than now.
    pub fn note_products(&self, now: Instant) {
        self.kept().products = Some(now);
    }

    /// What is read of this user must have what was stored before this moment.
    pub fn of_user(&self, user: &str) -> Option<Instant> {
        let kept = self.kept();
        let own = kept.young.get(user).or_else(|| kept.old.get(user)).copied();
        own.max(kept.everybody)
    }

    /// The same of products.
    pub fn of_products(&self) -> Option<Instant> {
        self.kept().products
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::clock;

    #[test]
    fn the_latest_moment_counts_for_as_long_as_a_replica_may_be_behind() {
        let begin = clock::now();
        let second = |n| begin + Duration::from_secs(n);
        let moments = Moments::new(Duration::from_secs(60));
        assert_eq!(moments.of_user("ann"), None);
        moments.note_users(["ann", "bob"], second(1));
        moments.note_users(["ann"], second(5));
        assert_eq!(moments.of_user("ann"), Some(second(5)));
        assert_eq!(moments.of_user("bob"), Some(second(1)));
        // Another generation: still known; the one after: as old as no replica that is read from.
        moments.note_users(["cy"], second(70));
        assert_eq!(moments.of_user("ann"), Some(second(5)));
        moments.note_users(["cy"], second(140));
        assert_eq!(moments.of_user("ann"), None);
        moments.note_everybody(second(141));
        assert_eq!(moments.of_user("ann"), Some(second(141)));
        assert_eq!(moments.of_user("cy"), Some(second(141)));
    }
}
