//! What answers cost, as measured.

use super::Took;
use crate::resilience::Mode;
use crate::resilience::ladder::{COMPUTED, Usual};
use std::time::Duration;

/// The kinds of question that differ in what an answer costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// A query; its explanation.
    Search,
    /// For a user.
    Recommend,
    /// Like a product.
    Similar,
    /// What everybody buys.
    Popular,
}

/// Questions there are.
const QUESTIONS: usize = 4;
/// The share of a new figure in the average: some fifty answers make it.
const NEW: f64 = 0.05;
/// What was waited for longer ago says nothing about now, microseconds: a mode that took too long is tried
/// again after so long.
const LATELY: u64 = 2_000_000;
/// Fewer answers say nothing.
const LEAST_ANSWERS: u32 = 5;
/// Nothing is free, and no question blocks everything. Shares of a slot.
const WEIGHTS: (f64, f64) = (0.02, 8.0);
/// Until something is measured: guesses, in shares of a slot, by the mode's place in [`COMPUTED`].
const GUESSES: [f64; COMPUTED.len()] = [1.0, 0.6, 0.6, 0.02];

/// What answers to one kind of question in one mode took, microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    /// Ever, and since there was none for long.
    answers: u32,
    lately: u32,
    /// When the latest was.
    at: u64,
    /// Averages: without waiting, of all; and all of it, of those lately.
    worked: f64,
    whole: f64,
}

impl Measured {
    fn learn(&mut self, now: u64, took: Took) {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (whole, worked) = (micros(took.whole), micros(took.whole.saturating_sub(took.waited)));
        if now.saturating_sub(self.at) > LATELY {
            self.lately = 0;
        }
        // The first ones count alike.
        let share = |answers: u32| (1.0 / (f64::from(answers) + 1.0)).max(NEW);
        self.worked += share(self.answers) * (worked - self.worked);
        self.whole += share(self.lately) * (whole - self.whole);
        self.answers = self.answers.saturating_add(1);
        self.lately = self.lately.saturating_add(1);
        self.at = now;
    }

    fn lately(&self, now: u64) -> Option<&Self> {
        let known = self.lately >= LEAST_ANSWERS && now.saturating_sub(self.at) <= LATELY;
        known.then_some(self)
    }
}

/// What each kind of question costs in each mode.
#[derive(Debug, Default)]
pub struct Costs([[Measured; COMPUTED.len()]; QUESTIONS]);

/// The place of a mode in [`COMPUTED`].
fn place(mode: Mode) -> usize {
    match mode {
        Mode::Full => 0,
        Mode::KeywordOnly => 1,
        Mode::SemanticOnly | Mode::Unpersonalised => 2,
        Mode::Stale | Mode::Popular => 3,
    }
}

impl Costs {
    /// Takes an answer into account.
    pub fn learn(&mut self, question: Question, mode: Mode, now: u64, took: Took) {
        self.0[question as usize][place(mode)].learn(now, took);
    }

    /// What a question in a mode takes of the limit, in slots.
    pub fn weight(&self, question: Question, mode: Mode) -> f64 {
        let guess = GUESSES[place(mode)];
        // However long ago: the best there is.
        let slot = &self.0[Question::Search as usize][0];
        let this = &self.0[question as usize][place(mode)];
        let known = slot.answers >= LEAST_ANSWERS && this.answers >= LEAST_ANSWERS;
        let weight = if known { this.worked / slot.worked.max(1.0) } else { guess };
        weight.clamp(WEIGHTS.0, WEIGHTS.1)
    }

    /// What answers usually take.
    pub fn usual(&self, question: Question, now: u64) -> Usual {
        self.0[question as usize].map(|measured| {
            measured.lately(now).map(|lately| Duration::from_micros(lately.whole as u64))
        })
    }

    /// A slot: a search in full without waiting.
    pub fn baseline(&self, now: u64) -> Option<Duration> {
        let slot = &self.0[Question::Search as usize][0];
        slot.lately(now).map(|lately| Duration::from_micros(lately.worked as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(whole: u64, waited: u64) -> Took {
        Took { whole: Duration::from_micros(whole), waited: Duration::from_micros(waited) }
    }

    #[test]
    fn weights_are_shares_of_a_search_without_waiting() {
        let mut costs = Costs::default();
        let weight = |costs: &Costs, mode| (costs.weight(Question::Search, mode) * 100.0).round();
        assert_eq!(weight(&costs, Mode::KeywordOnly) as u32, 60, "a guess");
        for n in 0..100 {
            costs.learn(Question::Search, Mode::Full, n, took(9_000, 5_000));
            costs.learn(Question::Search, Mode::KeywordOnly, n, took(2_000, 1_000));
            costs.learn(Question::Similar, Mode::Full, n, took(8_000, 0));
            costs.learn(Question::Search, Mode::Popular, n, took(30, 0));
        }
        assert_eq!(weight(&costs, Mode::Full) as u32, 100);
        assert_eq!(weight(&costs, Mode::KeywordOnly) as u32, 25);
        assert_eq!(weight(&costs, Mode::Popular) as u32, 2, "nothing is free");
        assert_eq!((costs.weight(Question::Similar, Mode::Full) * 10.0).round() as u32, 20);
        assert_eq!(costs.baseline(100), Some(Duration::from_micros(4_000)));
    }

    #[test]
    fn what_is_usual_is_forgotten_and_tried_again() {
        let mut costs = Costs::default();
        for n in 0..LEAST_ANSWERS {
            assert_eq!(costs.usual(Question::Search, n.into())[0], None, "not enough yet");
            costs.learn(Question::Search, Mode::Full, n.into(), took(400_000, 0));
        }
        let usual = |costs: &Costs, now| costs.usual(Question::Search, now)[0];
        assert_eq!(usual(&costs, 1_000), Some(Duration::from_millis(400)));
        assert_eq!(usual(&costs, LATELY + 1_000), None);
        // What comes then counts from the beginning.
        for n in 0..LEAST_ANSWERS {
            let now = 2 * LATELY + u64::from(n);
            costs.learn(Question::Search, Mode::Full, now, took(20_000, 0));
        }
        assert_eq!(usual(&costs, 2 * LATELY + 10), Some(Duration::from_millis(20)));
        assert_eq!(costs.usual(Question::Similar, 0), [None; COMPUTED.len()]);
    }
}
