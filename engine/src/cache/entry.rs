//! One thing remembered: the value, how long it lives, and what it depends on.

use super::Mark;
use std::time::Duration;

/// How long a value lives, milliseconds since 1970. Wall time, because instances share values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lives {
    /// When the work on it began.
    pub made: i64,
    /// From then on it is worth making anew before it is missed.
    pub refresh_at: i64,
    /// Until then it is as good as new.
    pub fresh_until: i64,
    /// Until then it is better than nothing.
    pub keep_until: i64,
}

/// How good a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As new.
    Fresh,
    /// As new, and its end is near.
    Aging,
    /// Its time is over since so long.
    Stale(Duration),
}

impl Lives {
    /// From `made` on for `ttl`, and stale for `keep` after that. Chance (`luck` in [0, 1)) takes off up to
    /// `jitter` of it, so that what was made together does not end together; in the last `refresh_ahead` of
    /// what is left it is aging.
    pub fn new(
        made: i64,
        ttl: Duration,
        keep: Duration,
        (jitter, luck): (f64, f64),
        refresh_ahead: f64,
    ) -> Self {
        let life = millis(ttl.mul_f64(1.0 - jitter * luck)).max(1);
        let aging = (life as f64 * refresh_ahead) as i64;
        let fresh_until = made.saturating_add(life);
        Self {
            made,
            refresh_at: fresh_until - aging,
            fresh_until,
            keep_until: fresh_until.saturating_add(millis(keep)),
        }
    }

    /// For `ttl` exactly, then gone.
    pub fn plain(made: i64, ttl: Duration) -> Self {
        Self::new(made, ttl, Duration::ZERO, (0.0, 0.0), 0.0)
    }

    /// How good it is at `now`; `None`: not at all. A value from the future, by another machine's clock, is new.
    pub fn at(&self, now: i64) -> Option<Freshness> {
        if now >= self.keep_until.max(self.fresh_until) {
            None
        } else if now >= self.fresh_until {
            Some(Freshness::Stale(Duration::from_millis((now - self.fresh_until).unsigned_abs())))
        } else if now >= self.refresh_at {
            Some(Freshness::Aging)
        } else {
            Some(Freshness::Fresh)
        }
    }

    /// How long it is worth keeping from `now` on.
    pub fn left(&self, now: i64) -> Duration {
        Duration::from_millis((self.keep_until - now).max(0).unsigned_abs())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a value depends on, as numbers: two ids with one number are both affected by a change of either, which
/// costs a computation and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tags {
    /// Products in it.
    #[serde(default, skip_serializing_if = "<[u64]>::is_empty")]
    pub products: Box<[u64]>,
    /// Whose history it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u64>,
}

/// What every answer depends on that prices decide about, written as if it was a product in it: no product's id has
/// a NUL. A change of any price is about it.
pub const PRICES: &str = "\0prices";

impl Tags {
    /// Of these ids.
    pub fn of<'i>(products: impl IntoIterator<Item = &'i str>, user: Option<&str>) -> Self {
        Self { products: products.into_iter().map(tag).collect(), user: user.map(tag) }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): the same number in every process.
pub(super) fn tag(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// A value as it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// How long it lives.
    pub lives: Lives,
    /// What it depends on.
    pub tags: Tags,
    /// What was known when the work on it began.
    pub mark: Mark,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_its_ages() {
        let ttl = Duration::from_millis(1_000);
        let lives = Lives::new(5_000, ttl, Duration::from_millis(300), (0.0, 0.0), 0.1);
        let check = |now, expected| assert_eq!(lives.at(now), expected, "{now}");
        check(4_000, Some(Freshness::Fresh));
        check(5_899, Some(Freshness::Fresh));
        check(5_900, Some(Freshness::Aging));
        check(5_999, Some(Freshness::Aging));
        check(6_000, Some(Freshness::Stale(Duration::ZERO)));
        check(6_299, Some(Freshness::Stale(Duration::from_millis(299))));
        check(6_300, None);
        assert_eq!(lives.left(6_000), Duration::from_millis(300));
        assert_eq!(lives.left(9_000), Duration::ZERO);
    }

    #[test]
    fn chance_only_shortens() {
        let ttl = Duration::from_secs(100);
        for luck in [0.0, 0.3, 0.999] {
            let lives = Lives::new(0, ttl, Duration::ZERO, (0.2, luck), 0.0);
            assert!((80_000..=100_000).contains(&lives.fresh_until), "{lives:?}");
            assert_eq!(lives.at(lives.fresh_until), None);
        }
    }
}
