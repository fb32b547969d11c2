//! An answer on its way to a client: what it is, and how it came about.

use super::ask;
use super::body::Body;
use crate::decision::{Cache, CacheOutcome};
use penstock_engine::cache::{Entry, Freshness, Hit, Tier};
use penstock_engine::serve::{Answer, Trace};
use std::sync::Arc;

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fresh {
    /// One that is remembered will do.
    Whatever,
    /// Made for this request; others may have it.
    Anew,
    /// Made for this request and kept nowhere.
    Unkept,
}

/// An answer, and how it came about.
#[derive(Clone)]
pub(super) enum Landed {
    /// It was remembered.
    Remembered(Hit<Body>),
    /// It was made.
    Made(Arc<Entry<Body>>, Arc<Trace>),
}

/// An answer for a request.
pub struct Served {
    /// It.
    pub body: Body,
    /// Where it came from.
    pub cache: Cache,
    /// How it was made, if it was made for this request.
    pub trace: Option<Arc<Trace>>,
    /// It is past its life.
    pub stale: bool,
}

impl Landed {
    pub fn entry(&self) -> &Entry<Body> {
        match self {
            Self::Remembered(hit) => &hit.entry,
            Self::Made(entry, _) => entry,
        }
    }
}

/// An answer that no cache had a part in.
pub(super) fn passed_by(answer: Answer, why: &'static str) -> Served {
    let body = Body::of(&answer, ask::bytes(&answer));
    let cache = Cache { outcome: CacheOutcome::Bypass, why };
    Served { body, cache, trace: Some(Arc::new(answer.trace)), stale: false }
}

/// One that was remembered.
pub(super) fn remembered(hit: Hit<Body>, why: &'static str) -> Served {
    let outcome = match (hit.freshness, hit.tier) {
        (Freshness::Stale(_), _) => CacheOutcome::Stale,
        (_, Tier::L1) => CacheOutcome::HitL1,
        (_, Tier::L2) => CacheOutcome::HitL2,
    };
    let stale = outcome == CacheOutcome::Stale;
    Served { body: hit.entry.value.clone(), cache: Cache { outcome, why }, trace: None, stale }
}

/// One that a flight landed with.
pub(super) fn served(landed: Landed, if_made: Cache) -> Served {
    match landed {
        Landed::Remembered(hit) => remembered(hit, ""),
        Landed::Made(entry, trace) => {
            Served { body: entry.value.clone(), cache: if_made, trace: Some(trace), stale: false }
        }
    }
}
