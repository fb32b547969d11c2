//! What the store is seen doing; whoever counts implements it.

use std::time::Duration;

/// Told of every query and of every wait.
pub trait Observe: Send + Sync {
    /// A query, by what it is for, and how long its server took.
    fn queried(&self, query: &'static str, took: Duration);
    /// A query took longer than is usual.
    fn slow(&self, query: &'static str);
    /// A caller had a connection, or none, after so long.
    fn waited(&self, took: Duration);
    /// A caller had no connection, because all were in use.
    fn refused(&self);
    /// A read went to the primary, although there are replicas: none was well, or none new enough.
    fn fell_back(&self, why: FellBack);
    /// A read was tried again at another server.
    fn retried(&self, query: &'static str);
}

/// Why a read went to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FellBack {
    /// No replica is well.
    NoneWell,
    /// Those that are well do not have yet what must be seen.
    TooOld,
}

impl FellBack {
    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoneWell => "none_well",
            Self::TooOld => "too_old",
        }
    }
}

/// Nobody counts.
#[derive(Debug, Default)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn queried(&self, _: &'static str, _: Duration) {}
    fn slow(&self, _: &'static str) {}
    fn waited(&self, _: Duration) {}
    fn refused(&self) {}
    fn fell_back(&self, _: FellBack) {}
    fn retried(&self, _: &'static str) {}
}
