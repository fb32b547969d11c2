//! The one place that reads the clock.
//!
//! Everything else takes `now` as a value or asks a [`Clock`], so tests step time instead of
//! sleeping. Clippy refuses `Instant::now` and `SystemTime::now` anywhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of monotonic and wall-clock time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Monotonic time, for measuring and for deadlines.
    fn now(&self) -> Instant;
    /// Wall-clock time as microseconds since 1970-01-01T00:00:00Z.
    fn unix_micros(&self) -> i64;
    /// Wall-clock time as whole seconds since 1970, rounded down.
    fn unix_seconds(&self) -> i64 {
        self.unix_micros().div_euclid(1_000_000)
    }
}

/// A clock that can be handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[allow(clippy::disallowed_methods)]
    fn unix_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            // A clock before 1970 is a clock that was never set; zero says so.
            Err(_) => 0,
        }
    }
}

/// The machine's clock, shared.
pub fn system() -> SharedClock {
    Arc::new(System)
}

/// Monotonic time of the machine's clock.
pub fn now() -> Instant {
    System.now()
}

/// Wall-clock time of the machine's clock, microseconds since 1970.
pub fn unix_micros() -> i64 {
    System.unix_micros()
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct Stepped {
    start: Instant,
    unix_start: i64,
    elapsed_micros: AtomicU64,
}

impl Stepped {
    /// A stopped clock whose wall time is `unix_micros`.
    pub fn at(unix_micros: i64) -> Arc<Self> {
        Arc::new(Self { start: now(), unix_start: unix_micros, elapsed_micros: AtomicU64::new(0) })
    }

    /// Moves both times forward.
    pub fn step(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.elapsed_micros.fetch_add(micros, Ordering::SeqCst);
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_micros.load(Ordering::SeqCst))
    }
}

impl Clock for Stepped {
    fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    fn unix_micros(&self) -> i64 {
        self.unix_start + i64::try_from(self.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}
