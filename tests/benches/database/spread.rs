//! Durations, and what of them is worth a column.

use std::time::Duration;

/// Durations of one kind.
#[derive(Debug, Default, Clone)]
pub struct Spread(pub Vec<Duration>);

impl Spread {
    /// The duration that this share of them does not exceed, in milliseconds.
    pub fn millis(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let at = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}
