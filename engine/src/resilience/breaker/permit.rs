//! Leave to make one call, given back with what came of it.

use super::Breaker;
use super::state::{Token, Verdict};
use penstock_config::policy::BreakerPolicy;
use std::time::Instant;

/// Leave to make one call. Say what came of it; dropped without a verdict, the call counts as
/// failed, so that nothing sticks.
#[derive(Debug)]
#[must_use = "dropped without a verdict it counts as a failure"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    policy: &'a BreakerPolicy,
    /// `None`: given, or of no account because an operator keeps the breaker closed.
    token: Option<Token>,
}

impl<'a> Permit<'a> {
    pub(super) fn new(
        breaker: &'a Breaker,
        policy: &'a BreakerPolicy,
        token: Option<Token>,
    ) -> Self {
        Self { breaker, policy, token }
    }

    /// The dependency did what it was asked. Slower than `slow_call`, it still counts as slow.
    pub fn succeeded(mut self, now: Instant) {
        let now = self.breaker.millis(now);
        self.settle(Verdict::Good, now);
    }

    /// The dependency failed, by its own fault.
    pub fn failed(mut self, now: Instant) {
        let now = self.breaker.millis(now);
        self.settle(Verdict::Failed, now);
    }

    /// The call says nothing about the dependency: the caller's mistake, or the caller went away.
    pub fn not_its_fault(mut self) {
        let started = self.token.map_or(0, |token| token.started);
        self.settle(Verdict::NotItsFault, started);
    }

    /// What is left of it is of no account.
    pub(super) fn take(&mut self) -> Option<Token> {
        self.token.take()
    }

    fn settle(&mut self, verdict: Verdict, now: u64) {
        if let Some(token) = self.token.take() {
            self.breaker.settle(self.policy, token, verdict, now);
        }
    }
}

impl Drop for Permit<'_> {
    /// At the time it began: dropping knows no time.
    fn drop(&mut self) {
        let started = self.token.map_or(0, |token| token.started);
        self.settle(Verdict::Failed, started);
    }
}
