//! The limit: a pure function of what answers took. Time is microseconds since the load was made.

use penstock_config::policy::LoadPolicy;
use std::time::Duration;

/// Answers are looked at together for so long: often enough to follow a burst, seldom enough for an
/// average to mean something.
const WINDOW: u64 = 100_000;
/// … and until there are so many,
const LEAST_ANSWERS: u32 = 10;
/// … or so much time has passed: a slow catalogue has few answers in a second.
const LONGEST_WINDOW: u64 = 1_000_000;
/// The share of the way to its new value that the limit goes at once: a few slow answers are no overload.
const SMOOTHING: f64 = 0.2;
/// The limit is at most halved: what one window says may be wrong.
const STEEPEST: f64 = 0.5;
/// A limit of which less was in use is not raised.
const IN_USE: f64 = 0.5;

/// What one answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// From being asked to being there.
    pub whole: Duration,
    /// Of it, waiting for ranking threads.
    pub waited: Duration,
}

/// The limit and what was seen since it was last looked at.
#[derive(Debug)]
pub struct Limit {
    limit: f64,
    window: Window,
    /// Of the last window, on average, and when that was; microseconds.
    waiting: (u64, f64),
}

#[derive(Debug, Default)]
struct Window {
    /// Of its first answer.
    began: Option<u64>,
    answers: u32,
    /// Sums, microseconds.
    whole: f64,
    waited: f64,
    /// Most that was in use at once.
    peak: f64,
}

impl Limit {
    /// Before anything was measured.
    pub fn new(limit: f64) -> Self {
        Self { limit, window: Window::default(), waiting: (0, 0.0) }
    }

    /// The limit, between the bounds of the policy.
    pub fn get(&self, policy: &LoadPolicy) -> f64 {
        let (least, most) = bounds(policy);
        self.limit.clamp(least, most)
    }

    /// What an answer waits lately, on average.
    pub fn waiting(&self, now: u64) -> Duration {
        let (at, waiting) = self.waiting;
        let lately = now.saturating_sub(at) < 10 * LONGEST_WINDOW;
        Duration::from_micros(if lately { waiting as u64 } else { 0 })
    }

    /// So much is in use.
    pub fn seen(&mut self, used: f64) {
        self.window.peak = self.window.peak.max(used);
    }

    /// Takes an answer into account.
    pub fn learn(&mut self, policy: &LoadPolicy, now: u64, took: Took) {
        let window = &mut self.window;
        let began = *window.began.get_or_insert(now);
        window.answers += 1;
        window.whole += micros(took.whole);
        window.waited += micros(took.waited);
        let lasted = now.saturating_sub(began);
        let enough = lasted >= WINDOW && window.answers >= LEAST_ANSWERS;
        if enough || lasted >= LONGEST_WINDOW {
            let window = std::mem::take(window);
            self.waiting = (now, window.waited / f64::from(window.answers));
            self.limit = next(self.get(policy), policy, &window);
        }
    }
}

fn next(limit: f64, policy: &LoadPolicy, window: &Window) -> f64 {
    let worked = window.whole - window.waited;
    let allowed = policy.tolerance * worked + f64::from(window.answers) * micros(policy.wait);
    // Of no time at all, all is allowed.
    let gradient = (allowed / window.whole.max(1.0)).clamp(STEEPEST, 1.0);
    if gradient >= 1.0 && window.peak < IN_USE * limit {
        return limit;
    }
    let wanted = limit * gradient + limit.sqrt();
    let (least, most) = bounds(policy);
    (limit + SMOOTHING * (wanted - limit)).clamp(least, most)
}

fn bounds(policy: &LoadPolicy) -> (f64, f64) {
    let least = f64::from(policy.min_limit);
    (least, f64::from(policy.max_limit).max(least))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
