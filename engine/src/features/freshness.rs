//! Freshness: how new a product is.

use std::time::Duration;

/// `2^(−age / half_life)` in [0, 1]: 1 for a product created now or in the future, 0 where the date
/// is unknown. `created_at` and `now` in seconds since 1970.
pub fn freshness(created_at: Option<i64>, now: i64, half_life: Duration) -> f32 {
    let Some(created_at) = created_at else {
        return 0.0;
    };
    let age = now.saturating_sub(created_at).max(0);
    (-(age as f64) / half_life.as_secs_f64()).exp2() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_every_half_life() {
        let day = 86_400;
        let check = |created_at: Option<i64>, expected: f32| {
            let got = freshness(created_at, 100 * day, Duration::from_secs(10 * day as u64));
            assert!((got - expected).abs() < 1e-6, "{created_at:?}: {got}");
        };
        check(Some(100 * day), 1.0);
        check(Some(90 * day), 0.5);
        check(Some(80 * day), 0.25);
        check(Some(200 * day), 1.0);
        check(Some(i64::MIN), 0.0);
        check(None, 0.0);
    }
}
