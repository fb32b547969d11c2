//! The whole state of a breaker in one atomic word, so that every transition is one
//! compare-and-swap and every reader sees a consistent whole.
//!
//! From the lowest bit: state 2, trip 3, reopened 4, generation 18, time 37 (milliseconds: four
//! years). The generation counts transitions; a permit carries the one it was given in.

/// Whether calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// All calls pass.
    Closed = 0,
    /// None does.
    Open = 1,
    /// A few do, to find out.
    HalfOpen = 2,
}

impl State {
    /// As in status pages and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// As in metrics: 0 closed, 1 open, 2 half-open.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// Why a breaker does not let calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Trip {
    /// So many failures in a row.
    ConsecutiveFailures = 1,
    /// The share of failures over the last minute.
    ErrorRate = 2,
    /// The share of slow calls over the last minute.
    SlowCalls = 3,
    /// It was half-open, and a probe failed or was slow.
    ProbeFailed = 4,
    /// It was half-open, and a probe gave no verdict in time.
    ProbeStuck = 5,
    /// An operator said so.
    Forced = 6,
}

impl Trip {
    /// As in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::ErrorRate => "error_rate",
            Self::SlowCalls => "slow_calls",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeStuck => "probe_stuck",
            Self::Forced => "forced",
        }
    }

    /// A clause for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "too many failures in a row",
            Self::ErrorRate => "too large a share of the last minute's calls failed",
            Self::SlowCalls => "too large a share of the last minute's calls was slow",
            Self::ProbeFailed => "it was tried again and failed",
            Self::ProbeStuck => "it was tried again and did not answer",
            Self::Forced => "an operator opened it",
        }
    }
}

const GENERATION_BITS: u32 = 18;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const TRIP_AT: u32 = 2;
const REOPENED_AT: u32 = 5;
const GENERATION_AT: u32 = 9;
const TIME_AT: u32 = 27;
/// Doubling fifteen times passes every bound there is.
const MAX_REOPENED: u32 = 15;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    fn pack(state: State, trip: Option<Trip>, reopened: u32, generation: u64, at: u64) -> Self {
        Self(
            state as u64
                | trip.map_or(0, |trip| trip as u64) << TRIP_AT
                | u64::from(reopened.min(MAX_REOPENED)) << REOPENED_AT
                | (generation & GENERATION_MASK) << GENERATION_AT
                | at << TIME_AT,
        )
    }

    /// A breaker nobody has called yet: closed since 0.
    pub fn new() -> Self {
        Self::pack(State::Closed, None, 0, 0, 0)
    }

    pub fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// Why it is not closed.
    pub fn trip(self) -> Option<Trip> {
        Some(match (self.0 >> TRIP_AT) & 7 {
            1 => Trip::ConsecutiveFailures,
            2 => Trip::ErrorRate,
            3 => Trip::SlowCalls,
            4 => Trip::ProbeFailed,
            5 => Trip::ProbeStuck,
            6 => Trip::Forced,
            _ => return None,
        })
    }

    /// How often it opened again without having closed.
    pub fn reopened(self) -> u32 {
        (self.0 >> REOPENED_AT) as u32 & MAX_REOPENED
    }

    pub fn generation(self) -> u64 {
        (self.0 >> GENERATION_AT) & GENERATION_MASK
    }

    /// Open: until when. Else: since when. Milliseconds.
    pub fn at(self) -> u64 {
        self.0 >> TIME_AT
    }

    fn next(self, state: State, trip: Option<Trip>, reopened: u32, at: u64) -> Self {
        Self::pack(state, trip, reopened, self.generation() + 1, at)
    }

    pub fn opened(self, trip: Trip, until: u64) -> Self {
        self.next(State::Open, Some(trip), 0, until)
    }

    pub fn reopened_until(self, trip: Trip, until: u64) -> Self {
        self.next(State::Open, Some(trip), self.reopened() + 1, until)
    }

    pub fn half_opened(self, now: u64) -> Self {
        self.next(State::HalfOpen, self.trip(), self.reopened(), now)
    }

    pub fn closed(self, now: u64) -> Self {
        self.next(State::Closed, None, 0, now)
    }
}

/// Generation `a` came after `b`, within half of the range before it wraps.
pub fn is_after(a: u64, b: u64) -> bool {
    let ahead = a.wrapping_sub(b) & GENERATION_MASK;
    ahead != 0 && ahead < 1 << (GENERATION_BITS - 1)
}
