//! What this instance knows of one client's use of one rule that the fleet counts together.

use crate::admission::meter::{Count, Judgement, Meter};
use crate::admission::table::Entry;
use penstock_config::policy::{Lease, Limit};
use std::time::Duration;

/// See the module. Times are microseconds since the limiter began.
#[derive(Debug, Default)]
pub(super) struct Known<C = u16> {
    /// What was admitted here, whoever decided.
    here: Meter<C>,
    /// Of the meter in Redis, as last heard.
    generation: u64,
    /// Admitted here without Redis, and not told yet.
    owed: u32,
    /// Taken from Redis in advance.
    tokens: u32,
    /// When what is left of them is lost.
    tokens_end: u64,
    /// Size of the latest batch.
    batch: u32,
    /// Somebody is asking for the next batch.
    asking: bool,
    /// Room in Redis, as last heard.
    room: u32,
    /// When all is forgotten, as last heard.
    forgotten: u64,
    refused: Option<Refused>,
    /// The limit it was last asked about.
    limit: Option<Limit>,
}

/// Redis said no, and when to ask again.
#[derive(Debug, Clone, Copy)]
struct Refused {
    until: u64,
    limit: Limit,
    cost: u32,
}

/// What is sent to Redis about one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub cost: u32,
    pub extra: u32,
    pub generation: u64,
    pub owed: u32,
    pub whole: u32,
}

/// What Redis says about one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub granted: u32,
    pub room: u32,
    pub retry_after: u64,
    pub forgotten_in: u64,
    pub generation: u64,
}

impl<C: Count> Known<C> {
    /// Redis refused a request like this one, and the time it said is not over.
    pub fn refused(&self, now: u64, limit: Limit, cost: u32) -> Option<Judgement> {
        let refused = self.refused.filter(|refused| {
            now < refused.until && refused.limit == limit && refused.cost <= cost
        })?;
        Some(Judgement {
            admitted: false,
            remaining: self.room,
            retry_after: Duration::from_micros(refused.until - now),
            reset: Duration::from_micros(self.forgotten.saturating_sub(now)),
        })
    }

    /// Takes `cost` of what Redis gave in advance, if there is so much.
    pub fn take(&mut self, now: u64, limit: Limit, cost: u32) -> Option<Judgement> {
        let cost = cost.min(limit.burst);
        if now >= self.tokens_end {
            self.tokens = 0;
        }
        if self.tokens < cost {
            return None;
        }
        self.tokens -= cost;
        self.here.charge(now, limit, cost);
        Some(self.admitted(now))
    }

    /// Takes [`Known::take`] back.
    pub fn give_back(&mut self, cost: u32, limit: Limit) {
        let cost = cost.min(limit.burst);
        self.tokens += cost;
        self.here.give_back(cost);
    }

    /// What to ask Redis for; with `lease`, for the next batch too. A batch that was used up is
    /// followed by one twice as large, one that was not by one half as large. One caller asks for a
    /// batch at a time.
    pub fn question(
        &mut self,
        now: u64,
        limit: Limit,
        cost: u32,
        lease: Option<Lease>,
    ) -> Question {
        self.limit = Some(limit);
        let whole = self.here.used_at(now, limit).saturating_add(self.tokens);
        let mut extra = 0;
        if let Some(lease) = lease.filter(|_| !self.asking) {
            let used_up = now < self.tokens_end;
            self.batch = if used_up { self.batch.saturating_mul(2) } else { self.batch / 2 };
            self.batch = self.batch.clamp(1, lease.most(limit));
            extra = self.batch.saturating_sub(cost);
            self.asking = extra > 0;
        }
        Question { cost, extra, generation: self.generation, owed: self.owed, whole }
    }

    /// Takes note of what Redis said to `question`.
    pub fn answered(
        &mut self,
        now: u64,
        limit: Limit,
        question: Question,
        answer: Answer,
        lease: Option<Lease>,
    ) -> Judgement {
        let cost = question.cost.min(limit.burst);
        self.given_up(question);
        self.generation = answer.generation;
        // Whatever was not owed any more in the meantime was told by somebody else.
        self.owed = self.owed.saturating_sub(question.owed);
        self.room = answer.room;
        self.forgotten = now + answer.forgotten_in;
        if answer.granted < cost {
            let refused = answer.room < cost;
            self.refused =
                refused.then_some(Refused { until: now + answer.retry_after, limit, cost });
            return Judgement {
                admitted: !refused,
                remaining: answer.room,
                retry_after: Duration::from_micros(answer.retry_after),
                reset: Duration::from_micros(answer.forgotten_in),
            };
        }
        self.refused = None;
        self.here.charge(now, limit, cost);
        if let Some(lease) = lease {
            self.tokens += answer.granted - cost;
            self.tokens_end = now + lease.lives.as_micros() as u64;
        }
        Judgement { retry_after: Duration::from_micros(answer.retry_after), ..self.admitted(now) }
    }

    /// What to tell Redis without a request, if there is anything, and under which limit.
    pub fn settlement(&mut self, now: u64) -> Option<(Limit, Question)> {
        let limit = self.limit?;
        let question = self.question(now, limit, 0, None);
        (question.owed > 0 || question.whole > 0).then_some((limit, question))
    }

    /// What was admitted here and is not forgotten.
    pub fn used_here(&mut self, now: u64, limit: Limit) -> u32 {
        self.here.used_at(now, limit)
    }

    /// No answer will come to `question`.
    pub fn given_up(&mut self, question: Question) {
        if question.extra > 0 {
            self.asking = false;
        }
    }

    /// Decides alone, with this instance's share of the limit. `told`: Redis may have counted the
    /// request although it did not answer in time, so that it is not owed.
    pub fn share(&mut self, now: u64, share: Limit, cost: u32, told: bool) -> Judgement {
        let judged = self.here.ask(now, share, cost);
        if judged.admitted && !told {
            self.owed = self.owed.saturating_add(cost.min(share.burst));
        }
        judged
    }

    /// Takes [`Known::share`] back.
    pub fn share_back(&mut self, share: Limit, cost: u32) {
        let cost = cost.min(share.burst);
        self.here.give_back(cost);
        self.owed = self.owed.saturating_sub(cost);
    }

    fn admitted(&self, now: u64) -> Judgement {
        Judgement {
            admitted: true,
            remaining: self.room.saturating_add(self.tokens),
            retry_after: Duration::ZERO,
            reset: Duration::from_micros(self.forgotten.saturating_sub(now)),
        }
    }
}

impl Entry for Known {
    fn worth(&self) -> u64 {
        // What is owed would be forgiven.
        self.here.used() + u64::from(self.owed)
    }
}
