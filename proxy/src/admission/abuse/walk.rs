//! One client's way through the product ids.
//!
//! Kept are the last few ids, and for each of them how many ids with equal distances end at it, per
//! distance. A new id continues every such chain that it is the next link of. So, without guessing
//! which id belongs to a walk and which does not:
//!
//! - Other ids in between hide nothing: four between two steps always find the earlier step among the
//!   six that are kept, and the end of the longest chain is kept however many come.
//! - Two walks at once are two chains. An id that belongs to both continues both.
//! - Steps that come out of order, as parallel requests do, close the gap: a late id hands the length
//!   it completes to the ids after it.
//! - An id that is asked again is the same step: `/products/7` and `/similar/7` are one.
//!
//! What a run of N takes is N ids with one distance, so ids at random, or nearby ids in any order but
//! the catalogue's, do not add up. Somebody who opens each product of a list in order walks indeed, and
//! passes for a crawler after `run` of them. That is the price: a larger `run` gives crawlers that much
//! more before they are found.

use penstock_config::policy::SequentialIds;

/// Ids remembered.
const KEPT: usize = 6;
/// The unit of [`Visit::at`], nanoseconds: in `u32` it lasts for 13 years.
const TENTH: u64 = 100_000_000;

/// Ids with equal distances, up to the one that has it.
#[derive(Debug, Clone, Copy, Default)]
struct Chain {
    /// 0: none.
    stride: i8,
    length: u8,
}

/// An id that was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Visit {
    /// 0: none.
    series: u32,
    number: u32,
    /// Tenths of a second.
    at: u32,
    chains: [Chain; KEPT],
}

/// What one client asked for lately. 144 bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Walk {
    /// Latest first.
    visits: [Visit; KEPT],
}

/// The longest chain that a step made longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// From one id to the next.
    pub stride: i8,
    /// Ids.
    pub length: u8,
    /// The number of the id it ends at.
    pub last: u32,
}

impl Run {
    /// The number of the id it began at.
    pub fn first(&self) -> u32 {
        let back = i64::from(self.stride) * (i64::from(self.length) - 1);
        // Every id of the run was in range.
        u32::try_from(i64::from(self.last) - back).unwrap_or_default()
    }
}

impl Walk {
    /// Takes an id of `series` (not 0) that is asked for at `now` (nanoseconds): the longest run it
    /// made longer, if any.
    pub fn step(
        &mut self,
        series: u32,
        number: u32,
        now: u64,
        rule: &SequentialIds,
    ) -> Option<Run> {
        let now = tenths(now);
        let recent = |visit: &Visit| recent(visit, now, rule);
        let again = self.visits.iter().position(|it| it.series == series && it.number == number);
        if let Some(visit) = again.map(|at| &mut self.visits[at]).filter(|visit| recent(visit)) {
            visit.at = now.max(visit.at);
            return None;
        }
        let mut new = Visit { series, number, at: now, ..Visit::default() };
        for before in self.visits.iter().filter(|it| it.series == series && recent(it)) {
            if let Some(stride) = stride(before.number, number, rule.max_stride) {
                new.raise(stride, before.length(stride).saturating_add(1));
            }
        }
        let place = again.unwrap_or_else(|| self.least(&recent));
        self.visits[..=place].rotate_right(1);
        self.visits[0] = new;
        let runs = new.chains.into_iter().filter(|chain| chain.stride != 0);
        let runs = runs.map(|Chain { stride, length }| {
            self.close(Run { stride, length, last: number }, series, &recent)
        });
        runs.max_by_key(|run| run.length)
    }

    /// What there is to lose by forgetting it.
    pub fn worth(&self, now: u64, rule: &SequentialIds) -> u64 {
        let now = tenths(now);
        let recent = self.visits.iter().filter(|visit| recent(visit, now, rule));
        recent.map(|visit| u64::from(visit.longest())).max().unwrap_or_default()
    }

    /// The place for a new visit: that of the oldest one which is not the end of the longest chain.
    fn least(&self, recent: &impl Fn(&Visit) -> bool) -> usize {
        let length = |at: &usize| {
            let visit = &self.visits[*at];
            if recent(visit) { visit.longest() } else { 0 }
        };
        // Of equal ones, the latest.
        let longest = (0..KEPT).rev().max_by_key(length);
        if longest == Some(KEPT - 1) { KEPT - 2 } else { KEPT - 1 }
    }

    /// Hands a run's length to the ids that follow its last and were asked for before it.
    fn close(&mut self, mut run: Run, series: u32, recent: &impl Fn(&Visit) -> bool) -> Run {
        loop {
            let next = i64::from(run.last) + i64::from(run.stride);
            let follows =
                |it: &&mut Visit| it.series == series && i64::from(it.number) == next && recent(it);
            let Some(next) = self.visits.iter_mut().find(follows) else { return run };
            run.last = next.number;
            run.length = run.length.saturating_add(1).max(next.length(run.stride));
            next.raise(run.stride, run.length);
        }
    }
}

impl Visit {
    /// Ids in the chain with this distance that ends here; this one is always among them.
    fn length(&self, stride: i8) -> u8 {
        self.chains.iter().find(|chain| chain.stride == stride).map_or(1, |chain| chain.length)
    }

    fn longest(&self) -> u8 {
        self.chains.iter().map(|chain| chain.length).max().unwrap_or_default().max(1)
    }

    fn raise(&mut self, stride: i8, length: u8) {
        let own = self.chains.iter().position(|chain| chain.stride == stride);
        let shortest = || (0..KEPT).min_by_key(|&at| self.chains[at].length).unwrap_or_default();
        let at = own.unwrap_or_else(shortest);
        if self.chains[at].length < length {
            self.chains[at] = Chain { stride, length };
        }
    }
}

fn recent(visit: &Visit, now: u32, rule: &SequentialIds) -> bool {
    let tenths = u32::try_from(rule.within.as_millis() / 100).unwrap_or(u32::MAX);
    visit.series != 0 && now.saturating_sub(visit.at) <= tenths
}

fn stride(from: u32, to: u32, longest: u8) -> Option<i8> {
    let stride = i64::from(to) - i64::from(from);
    i8::try_from(stride).ok().filter(|stride| *stride != 0 && stride.unsigned_abs() <= longest)
}

fn tenths(now: u64) -> u32 {
    u32::try_from(now / TENTH).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
