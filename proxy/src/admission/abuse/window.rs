//! How often in the last minute, erring on the side of the client.
//!
//! Twenty sub-windows of three seconds, the current one among them: between 57 and 60 seconds. So what
//! is counted did happen within 60 seconds (whoever keeps to the threshold is never above it, whenever
//! they ask), and whatever happened within 57 seconds is counted. A limiter errs the other way.

/// Length of a sub-window, nanoseconds.
const SLOT: u64 = 3_000_000_000;
/// Sub-windows, the one that has begun among them.
const SLOTS: usize = 20;

/// A count of the last 57 to 60 seconds. 24 bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// The number of the newest sub-window.
    newest: u32,
    counts: [u8; SLOTS],
}

impl Window {
    /// Counts one at `now` (nanoseconds; earlier than before counts as the same moment): how many
    /// there were with it.
    pub fn add(&mut self, now: u64) -> u32 {
        let current = number_of(now).max(self.newest);
        for passed in (self.newest + 1..=current).take(SLOTS) {
            self.counts[passed as usize % SLOTS] = 0;
        }
        self.newest = current;
        let count = &mut self.counts[current as usize % SLOTS];
        *count = count.saturating_add(1);
        self.sum()
    }

    /// What there is to lose by forgetting it.
    pub fn worth(&self, now: u64) -> u64 {
        let lapsed = number_of(now).saturating_sub(self.newest) as usize >= SLOTS;
        if lapsed { 0 } else { u64::from(self.sum()) }
    }

    fn sum(&self) -> u32 {
        self.counts.iter().map(|&count| u32::from(count)).sum()
    }
}

fn number_of(now: u64) -> u32 {
    u32::try_from(now / SLOT).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLISECOND: u64 = 1_000_000;

    /// The counts that `pauses` (milliseconds) lead to, and the moments themselves.
    fn counts(pauses: &[u64]) -> Vec<(u64, u32)> {
        let mut window = Window::default();
        let mut at = 0;
        let counted = pauses.iter().map(|pause| {
            at += pause;
            (at, window.add(at * MILLISECOND))
        });
        counted.collect()
    }

    /// How many of the moments up to `last` lie less than `span` milliseconds before it, it included.
    fn within(moments: &[(u64, u32)], last: usize, span: u64) -> u32 {
        let newest = moments[last].0;
        moments[..=last].iter().filter(|(at, _)| newest - at < span).count() as u32
    }

    proptest! {
        #[test]
        fn counts_lie_between_57_and_60_seconds(
            pauses in prop::collection::vec(
                prop_oneof![Just(0), 0..100_u64, 0..7_000_u64, 2_900..3_100_u64, 50_000..70_000_u64],
                1..150,
            ),
        ) {
            let moments = counts(&pauses);
            for (last, &(_, counted)) in moments.iter().enumerate() {
                prop_assert!(counted <= within(&moments, last, 60_000), "{last}: {moments:?}");
                prop_assert!(counted >= within(&moments, last, 57_001), "{last}: {moments:?}");
            }
        }
    }

    #[test]
    fn floods_and_odd_clocks() {
        let mut window = Window::default();
        for _ in 0..1_000 {
            window.add(5);
        }
        assert_eq!(window.add(5), 255);
        assert_eq!(window.add(0), 255, "a clock that goes back stands still");
        assert_eq!((window.worth(59 * SLOT / 3), window.worth(60 * SLOT / 3)), (255, 0));
        assert_eq!(window.add(u64::MAX), 1);
        assert_eq!(window.add(u64::MAX), 2);
        assert_eq!(size_of::<Window>(), 24);
    }
}
