//! Refusals in the log: the first ones at once, a flood of them as a number.

use super::Who;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Lines per [`PERIOD`].
const LINES: u32 = 10;
/// What is not written is summed up this often.
const PERIOD: Duration = Duration::from_secs(10);

/// Writes a line per refusal, at most [`LINES`] per [`PERIOD`].
#[derive(Debug, Default)]
pub struct Violations(Mutex<Option<Period>>);

#[derive(Debug)]
struct Period {
    began: Instant,
    refusals: u32,
}

/// What becomes of a refusal in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    /// It is written.
    written: bool,
    /// Refusals of the period before that were not.
    unwritten: u32,
}

impl Violations {
    /// `who` was refused by the rule of this name.
    pub fn report(&self, who: Who, rule: &str, now: Instant) {
        let line = self.note(now);
        if line.unwritten > 0 {
            tracing::warn!(refusals = line.unwritten, "more requests were refused by limits");
        }
        if line.written {
            tracing::warn!(client = %who, rule, "refused: too many requests");
        }
    }

    fn note(&self, now: Instant) -> Line {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unwritten = 0;
        let fresh = current
            .as_ref()
            .is_none_or(|period| now.saturating_duration_since(period.began) >= PERIOD);
        if fresh {
            unwritten = current.as_ref().map_or(0, |old| old.refusals.saturating_sub(LINES));
            *current = Some(Period { began: now, refusals: 0 });
        }
        let refusals = current.as_mut().map_or(0, |period| {
            period.refusals += 1;
            period.refusals
        });
        Line { written: refusals <= LINES, unwritten }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::clock::{Clock, Stepped};

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let clock = Stepped::at(0);
        let violations = Violations::default();
        let written =
            |count: usize| (0..count).filter(|_| violations.note(clock.now()).written).count();
        assert_eq!(written(5_000), 10);
        clock.step(Duration::from_secs(10));
        let first = violations.note(clock.now());
        assert_eq!(first, Line { written: true, unwritten: 4_990 });
        assert_eq!(violations.note(clock.now()), Line { written: true, unwritten: 0 });
    }
}
