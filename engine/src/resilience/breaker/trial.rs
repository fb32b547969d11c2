//! What happens while half-open, in one word: which probes pass, and what came of them.
//!
//! From the lowest bit: fresh 1, outstanding 11, good 7, progress 27 (milliseconds since it became
//! half-open: 37 hours), generation 18. A trial of an older generation counts as not begun.

use super::word::{Word, is_after};
use penstock_config::policy::BreakerPolicy;

const OUTSTANDING_AT: u32 = 1;
const GOOD_AT: u32 = 12;
const PROGRESS_AT: u32 = 19;
const GENERATION_AT: u32 = 46;
const MAX_OUTSTANDING: u64 = (1 << 11) - 1;
const MAX_GOOD: u64 = (1 << 7) - 1;
const MAX_PROGRESS: u64 = (1 << 27) - 1;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    pub generation: u64,
    /// Last start of a probe when there was none, or last success; milliseconds.
    progress: u64,
    /// Successes.
    pub good: u64,
    /// Probes without a verdict.
    outstanding: u64,
    /// The next call passes without a lot.
    fresh: bool,
}

/// What a call is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lot {
    /// It is a probe.
    Passes(Trial),
    /// Not now; again in so many milliseconds.
    Refused(u64),
    /// A probe has been out for too long: it counts as failed.
    Stuck,
}

impl Trial {
    /// The trial of the half-open state `state`; `None`: there has been another since.
    pub fn of(state: Word, packed: u64) -> Option<Self> {
        let trial = Self::unpack(packed);
        if trial.generation == state.generation() {
            return Some(trial);
        }
        let begun = Self {
            generation: state.generation(),
            progress: 0,
            good: 0,
            outstanding: 0,
            fresh: true,
        };
        (!is_after(trial.generation, begun.generation)).then_some(begun)
    }

    fn unpack(packed: u64) -> Self {
        Self {
            generation: packed >> GENERATION_AT,
            progress: (packed >> PROGRESS_AT) & MAX_PROGRESS,
            good: (packed >> GOOD_AT) & MAX_GOOD,
            outstanding: (packed >> OUTSTANDING_AT) & MAX_OUTSTANDING,
            fresh: packed & 1 == 1,
        }
    }

    pub fn pack(self) -> u64 {
        u64::from(self.fresh)
            | self.outstanding << OUTSTANDING_AT
            | self.good.min(MAX_GOOD) << GOOD_AT
            | self.progress.min(MAX_PROGRESS) << PROGRESS_AT
            | self.generation << GENERATION_AT
    }

    /// The first call is a probe, then the share of calls whose `draw` in [0, 1) is below it; and
    /// one more whenever none was out for `probe_timeout`, so that little traffic is enough.
    pub fn draw(self, policy: &BreakerPolicy, since: u64, draw: f64) -> Lot {
        let timeout = policy.probe_timeout.as_millis() as u64;
        let quiet = since.min(MAX_PROGRESS).saturating_sub(self.progress);
        let overdue = quiet >= timeout;
        if self.outstanding > 0 && overdue {
            return Lot::Stuck;
        }
        let passes = self.fresh || overdue || draw < policy.half_open_share;
        if !passes || self.outstanding == MAX_OUTSTANDING {
            return Lot::Refused(timeout - quiet);
        }
        Lot::Passes(Self {
            progress: if self.outstanding == 0 { since } else { self.progress },
            outstanding: self.outstanding + 1,
            fresh: false,
            ..self
        })
    }

    pub fn succeeded(self, since: u64) -> Self {
        let outstanding = self.outstanding.saturating_sub(1);
        Self { progress: since, good: self.good + 1, outstanding, ..self }
    }

    /// A probe that said nothing about the dependency: another takes its place.
    pub fn returned(self) -> Self {
        let outstanding = self.outstanding.saturating_sub(1);
        Self { outstanding, fresh: self.fresh || outstanding == 0, ..self }
    }
}
