//! Waiting for another process, with a bound.

use penstock_config::clock;
use std::time::Duration;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value, at most for `limit`; fails the test with `what` after.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let started = clock::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// As [`until`], for a condition.
pub async fn until_true(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> bool) {
    until(what, limit, async || probe().await.then_some(())).await;
}
