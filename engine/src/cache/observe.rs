//! Who counts what caches do. The engine knows nothing of metrics; whoever exposes them implements this.

use super::{CacheKind, Reason, Tier};
use std::time::Duration;

/// What took time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A look-up in memory.
    GetL1,
    /// A round trip to Redis, for one or many values.
    GetL2,
    /// Encoding and writing to Redis; no request waits for it.
    PutL2,
    /// Telling the fleet what changed.
    Invalidate,
}

impl Operation {
    /// All of them; one's position is `operation as usize`.
    pub const ALL: [Self; 4] = [Self::GetL1, Self::GetL2, Self::PutL2, Self::Invalidate];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetL1 => "get_l1",
            Self::GetL2 => "get_l2",
            Self::PutL2 => "put_l2",
            Self::Invalidate => "invalidate",
        }
    }
}

/// Hears of everything that is counted. Called on the way of requests: never waits.
pub trait Observe: Send + Sync {
    /// `tier` was asked for a value of `kind` and had it, or not.
    fn looked_up(&self, kind: CacheKind, tier: Tier, hit: bool);
    /// An operation took so long.
    fn took(&self, kind: CacheKind, operation: Operation, time: Duration);
    /// What is remembered of `kind` (`None`: of everything) is not good any more, as far as a note says.
    fn invalidated(&self, kind: Option<CacheKind>, reason: Reason);
    /// A value was not written to Redis: too many are being written, or Redis failed.
    fn not_written(&self, kind: CacheKind);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn looked_up(&self, _: CacheKind, _: Tier, _: bool) {}
    fn took(&self, _: CacheKind, _: Operation, _: Duration) {}
    fn invalidated(&self, _: Option<CacheKind>, _: Reason) {}
    fn not_written(&self, _: CacheKind) {}
}
