//! What one client used of one limit, and whether it may go on.
//!
//! Two counters stand side by side, and a request must pass both:
//!
//! - A **leaky bucket**, the meter form of GCRA (ITU-T I.371): requests fill it, it leaks `per_minute` a
//!   minute and holds `burst`. In the long run it admits `per_minute` a minute.
//! - A **sliding window**: requests admitted per sub-window of three seconds, the last twenty-one of
//!   which cover any 60 seconds. They never hold more than `burst`, so no 60 seconds admit more. (The
//!   bucket alone admits `burst + per_minute` in the minute after a pause.)
//!
//! Both are kept in requests and not in times, so a changed limit neither forgives nor doubles what was
//! counted. Integers throughout: nothing drifts. `shared/meter.lua` is the same in Redis, and a test
//! holds the two against each other.

use penstock_config::policy::Limit;
use std::time::Duration;

/// Length of a sub-window, microseconds.
pub(super) const SLOT: u64 = 3_000_000;
/// Sub-windows that cover any 60 seconds: twenty, and the one that has begun.
pub(super) const SLOTS: usize = 21;
/// Microseconds in a minute: what one request fills, since the bucket leaks `per_minute` a microsecond.
pub(super) const REQUEST: u64 = 60_000_000;

/// How many requests a sub-window can hold.
pub trait Count: Copy + Default + Into<u64> {
    /// As near to `count` as it goes.
    fn of(count: u64) -> Self;
}

impl Count for u16 {
    fn of(count: u64) -> Self {
        Self::try_from(count).unwrap_or(Self::MAX)
    }
}

impl Count for u32 {
    fn of(count: u64) -> Self {
        Self::try_from(count).unwrap_or(Self::MAX)
    }
}

/// Use of one limit by one client (`u16`: 64 bytes) or by everybody (`u32`).
#[derive(Debug, Clone, Default)]
pub struct Meter<C = u16> {
    /// What is in the bucket at `at`, in 1 / [`REQUEST`] of a request.
    level: u64,
    /// Microseconds since the limiter began.
    at: u64,
    /// Admitted per sub-window; that of time `t` is at `t / SLOT % SLOTS`.
    slots: [C; SLOTS],
    /// Their sum.
    held: u32,
}

/// What a limit says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The request may pass, and was counted.
    pub admitted: bool,
    /// Requests that would pass now, after this one.
    pub remaining: u32,
    /// Until a request like this one would pass; zero if one would now.
    pub retry_after: Duration,
    /// Until everything is forgotten.
    pub reset: Duration,
}

impl<C: Count> Meter<C> {
    /// Judges a request that counts `cost` at `now` (microseconds since the limiter began; earlier than
    /// the last one counts as the same moment), and counts it if it is admitted. A request that costs
    /// more than `burst` costs all of it.
    pub fn ask(&mut self, now: u64, limit: Limit, cost: u32) -> Judgement {
        let cost = cost.min(limit.burst);
        let admitted = self.room(now, limit) >= cost;
        if admitted {
            self.add(cost);
        }
        Judgement { admitted, ..self.judgement(limit, cost) }
    }

    /// How it stands with a limit, for a request that would count `cost`; `admitted`: it would be.
    pub fn look(&mut self, now: u64, limit: Limit, cost: u32) -> Judgement {
        let cost = cost.min(limit.burst);
        let admitted = self.room(now, limit) >= cost;
        Judgement { admitted, ..self.judgement(limit, cost) }
    }

    /// Counts `cost` that was admitted elsewhere, room or not.
    pub fn charge(&mut self, now: u64, limit: Limit, cost: u32) {
        self.advance(now, limit);
        self.add(cost);
    }

    /// Takes back what [`Meter::ask`] just counted.
    pub fn give_back(&mut self, cost: u32) {
        self.level = self.level.saturating_sub(u64::from(cost) * REQUEST);
        let current = slot(self.at);
        let counted: u64 = self.slots[current].into();
        let less = counted.min(u64::from(cost));
        self.slots[current] = C::of(counted - less);
        self.held -= less as u32;
    }

    /// Requests in bucket or window at `now`, whichever holds more, rounded up.
    pub fn used_at(&mut self, now: u64, limit: Limit) -> u32 {
        self.advance(now, limit);
        self.held.max(self.used() as u32)
    }

    /// What it holds at `now`: the bucket's level in 1 / [`REQUEST`] of a request, and the sub-windows, the
    /// current one first. `None`: nothing.
    pub fn held_at(&mut self, now: u64, limit: Limit) -> Option<(u64, [u32; SLOTS])> {
        self.advance(now, limit);
        if self.held == 0 && self.level == 0 {
            return None;
        }
        let current = (self.at / SLOT) as usize;
        let of_age = |age: usize| {
            let count: u64 = self.slots[(current + SLOTS - age) % SLOTS].into();
            count as u32
        };
        Some((self.level, std::array::from_fn(of_age)))
    }

    /// Requests in the bucket, rounded up: how much there is to lose by forgetting this client.
    pub fn used(&self) -> u64 {
        self.level.div_ceil(REQUEST)
    }

    fn add(&mut self, cost: u32) {
        self.level += u64::from(cost) * REQUEST;
        let current = slot(self.at);
        let counted: u64 = self.slots[current].into();
        let more = C::of(counted + u64::from(cost));
        self.slots[current] = more;
        self.held += (more.into() - counted) as u32;
    }

    /// Leaks and slides to `now`.
    fn advance(&mut self, now: u64, limit: Limit) {
        let now = now.max(self.at);
        let leaked = (now - self.at).saturating_mul(u64::from(limit.per_minute));
        self.level = self.level.saturating_sub(leaked);
        let (from, to) = (self.at / SLOT, now / SLOT);
        for passed in (from + 1..=to).take(SLOTS) {
            let passed = &mut self.slots[(passed % SLOTS as u64) as usize];
            self.held -= (*passed).into() as u32;
            *passed = C::default();
        }
        self.at = now;
    }

    /// Requests that both would let pass at `now`.
    fn room(&mut self, now: u64, limit: Limit) -> u32 {
        self.advance(now, limit);
        self.left(limit)
    }

    fn left(&self, limit: Limit) -> u32 {
        let full = u64::from(limit.burst) * REQUEST;
        let in_bucket = full.saturating_sub(self.level) / REQUEST;
        limit.burst.saturating_sub(self.held).min(in_bucket as u32)
    }

    fn judgement(&self, limit: Limit, cost: u32) -> Judgement {
        Judgement {
            admitted: false,
            remaining: self.left(limit),
            retry_after: Duration::from_micros(self.wait(limit, cost)),
            reset: Duration::from_micros(self.forgotten_in(limit)),
        }
    }

    /// Microseconds until a request that costs `cost` passes both.
    fn wait(&self, limit: Limit, cost: u32) -> u64 {
        let full = u64::from(limit.burst) * REQUEST;
        let over = (self.level + u64::from(cost) * REQUEST).saturating_sub(full);
        let bucket = over.div_ceil(u64::from(limit.per_minute));
        bucket.max(self.window_holds_in(limit.burst - cost))
    }

    /// Microseconds until the window holds at most `most`, oldest sub-windows first.
    fn window_holds_in(&self, most: u32) -> u64 {
        let mut held = self.held;
        let current = self.at / SLOT;
        let mut until = 0;
        for age in (0..SLOTS as u64).rev() {
            if held <= most {
                break;
            }
            let Some(begun) = current.checked_sub(age) else { continue };
            held -= self.slots[(begun % SLOTS as u64) as usize].into() as u32;
            until = (begun + SLOTS as u64) * SLOT - self.at;
        }
        until
    }

    /// Microseconds until neither holds anything.
    fn forgotten_in(&self, limit: Limit) -> u64 {
        let bucket = self.level.div_ceil(u64::from(limit.per_minute));
        let current = self.at / SLOT;
        let newest = (0..SLOTS as u64)
            .filter_map(|age| current.checked_sub(age))
            .find(|begun| self.slots[(begun % SLOTS as u64) as usize].into() > 0);
        let window = newest.map_or(0, |begun| (begun + SLOTS as u64) * SLOT - self.at);
        bucket.max(window)
    }
}

fn slot(now: u64) -> usize {
    (now / SLOT % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests;
