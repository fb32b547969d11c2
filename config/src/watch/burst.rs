//! Events that belong together, and when the folder may be read after them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A file that is open for writing is waited for, but not for ever: somebody may keep it open.
const LONGEST_WRITE: Duration = Duration::from_secs(1);
/// Nor for ever when it is written to all the time.
const LONGEST_OPEN: Duration = Duration::from_secs(5);
/// A writer that never pauses is read after this many debounce times.
const LONGEST_BURST: u32 = 4;

pub(super) enum Signal {
    /// Something in the folder is new, gone or renamed.
    Changed,
    /// A file is being written.
    Writing(PathBuf),
    /// A file was written and closed.
    Written(PathBuf),
    Stop,
}

#[derive(Default)]
pub(super) struct Burst {
    first: Option<Instant>,
    last: Option<Instant>,
    /// Files written and not closed, with the last write.
    open: BTreeMap<PathBuf, Instant>,
}

impl Burst {
    pub(super) fn note(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::Writing(path) => drop(self.open.insert(path, now)),
            Signal::Written(path) => drop(self.open.remove(&path)),
            Signal::Changed | Signal::Stop => {}
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When the folder may be read; `None`: nothing happened.
    pub(super) fn ends(&self, debounce: Duration) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        Some(match self.open.values().max() {
            Some(write) => (*write + LONGEST_WRITE).min(first + LONGEST_OPEN),
            None => (last + debounce).min(first + debounce * LONGEST_BURST),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_ends_when_it_is_quiet_closed_or_old() {
        let start = crate::clock::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let changed = || Signal::Changed;
        let writing = || Signal::Writing("ranking.toml".into());
        let written = || Signal::Written("ranking.toml".into());
        let check = |signals: Vec<(u64, Signal)>, expected: Option<u64>| {
            let mut burst = Burst::default();
            let shown: Vec<_> = signals.iter().map(|(millis, _)| *millis).collect();
            for (millis, signal) in signals {
                burst.note(signal, at(millis));
            }
            let ends = burst.ends(Duration::from_millis(40));
            assert_eq!(ends, expected.map(at), "signals at {shown:?}");
        };
        check(vec![], None);
        check(vec![(0, changed())], Some(40));
        check(vec![(0, changed()), (30, changed())], Some(70));
        // Never quiet: four debounce times after the first.
        check((0..20).map(|i| (i * 30, changed())).collect(), Some(160));
        // Open files are waited for, as long as somebody writes now and then.
        check(vec![(0, writing())], Some(1_000));
        check(vec![(0, writing()), (500, writing())], Some(1_500));
        check((0..9).map(|i| (i * 600, writing())).collect(), Some(5_000));
        check(vec![(0, writing()), (20, written())], Some(60));
        check(vec![(0, writing()), (300, written())], Some(160));
    }
}
