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
//! counted. Integers throughout: nothing drifts.

use penstock_config::policy::Limit;
use std::time::Duration;

/// Length of a sub-window, nanoseconds.
const SLOT: u64 = 3_000_000_000;
/// Sub-windows that cover any 60 seconds: twenty, and the one that has begun.
const SLOTS: usize = 21;
/// Nanoseconds in a minute: what one request fills, since the bucket leaks `per_minute` a nanosecond.
const REQUEST: u64 = 60_000_000_000;

/// A client's use of one limit. 64 bytes.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// What is in the bucket at `at`, in 1 / [`REQUEST`] of a request.
    level: u64,
    /// Nanoseconds since the limiter began.
    at: u64,
    /// Admitted per sub-window; that of time `t` is at `t / SLOT % SLOTS`.
    slots: [u16; SLOTS],
}

/// What a limit says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The request may pass, and was counted.
    pub admitted: bool,
    /// Requests that would pass now, after this one.
    pub remaining: u32,
    /// Until a request of this kind would pass; zero if one would now.
    pub retry_after: Duration,
    /// Until everything is forgotten.
    pub reset: Duration,
}

impl Meter {
    /// Judges a request at `now` (nanoseconds since the limiter began; earlier than the last one counts
    /// as the same moment), and counts it if it is admitted.
    pub fn ask(&mut self, now: u64, limit: &Limit) -> Judgement {
        let now = self.advance(now, limit);
        let admitted = self.room(limit) > 0;
        if admitted {
            self.level += REQUEST;
            // Never above `burst`, which a u16 holds.
            self.slots[slot(now)] += 1;
        }
        Judgement {
            admitted,
            remaining: self.room(limit),
            retry_after: Duration::from_nanos(self.wait(now, limit)),
            reset: Duration::from_nanos(self.forgotten_in(now, limit)),
        }
    }

    /// Requests in the bucket, rounded up: how much there is to lose by forgetting this client.
    pub fn used(&self) -> u64 {
        self.level.div_ceil(REQUEST)
    }

    /// Leaks and slides to `now`.
    fn advance(&mut self, now: u64, limit: &Limit) -> u64 {
        let now = now.max(self.at);
        let leaked = (now - self.at).saturating_mul(u64::from(limit.per_minute));
        self.level = self.level.saturating_sub(leaked);
        let (from, to) = (self.at / SLOT, now / SLOT);
        for passed in (from + 1..=to).take(SLOTS) {
            self.slots[(passed % SLOTS as u64) as usize] = 0;
        }
        self.at = now;
        now
    }

    fn in_window(&self) -> u32 {
        self.slots.iter().map(|&count| u32::from(count)).sum()
    }

    /// Requests that both would let pass now.
    fn room(&self, limit: &Limit) -> u32 {
        let full = u64::from(limit.burst) * REQUEST;
        let in_bucket = full.saturating_sub(self.level) / REQUEST;
        limit.burst.saturating_sub(self.in_window()).min(in_bucket as u32)
    }

    /// Nanoseconds until one more request passes both.
    fn wait(&self, now: u64, limit: &Limit) -> u64 {
        let full = u64::from(limit.burst) * REQUEST;
        let over = (self.level + REQUEST).saturating_sub(full);
        let bucket = over.div_ceil(u64::from(limit.per_minute));
        bucket.max(self.window_passes_in(now, limit.burst))
    }

    /// Nanoseconds until the window holds less than `burst`, oldest sub-windows first.
    fn window_passes_in(&self, now: u64, burst: u32) -> u64 {
        let mut held = self.in_window();
        let current = now / SLOT;
        let mut until = 0;
        for age in (0..SLOTS as u64).rev() {
            if held < burst {
                break;
            }
            let Some(begun) = current.checked_sub(age) else { continue };
            held -= u32::from(self.slots[(begun % SLOTS as u64) as usize]);
            until = (begun + SLOTS as u64) * SLOT - now;
        }
        until
    }

    /// Nanoseconds until neither holds anything.
    fn forgotten_in(&self, now: u64, limit: &Limit) -> u64 {
        let bucket = self.level.div_ceil(u64::from(limit.per_minute));
        bucket.max(self.window_passes_in(now, 1))
    }
}

fn slot(now: u64) -> usize {
    (now / SLOT % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests;
