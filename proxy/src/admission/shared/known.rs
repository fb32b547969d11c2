//! What this instance knows of one client's use of one rule that the fleet counts together.

use crate::admission::meter::{Count, Judgement, Meter, REQUEST, SLOTS};
use crate::admission::table::Entry;
use penstock_config::policy::{Lease, Limit};
use std::time::Duration;

/// See the module. Times are microseconds since the limiter began.
#[derive(Debug, Default)]
pub(super) struct Known<C = u16> {
    /// What was admitted here, whoever decided.
    here: Meter<C>,
    /// Of the meter in Redis, as last heard by a carrier.
    generation: u64,
    /// Admitted here without Redis, and not told yet.
    owed: u32,
    /// A question is out that carries what is owed; meanwhile the others carry nothing, or it would be
    /// paid once for each of them.
    carried: bool,
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
    /// Level and sub-windows of everything admitted here that is not forgotten.
    pub whole: Option<(u64, [u32; SLOTS])>,
    /// It carries what is owed.
    pub carries: bool,
    /// It asks for the next batch, of `cost` and `extra`.
    pub leases: bool,
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

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Redis most likely did what was asked, only too late.
    Told,
    /// It did not.
    Untold,
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
        self.expire(now);
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
    /// batch at a time, and one carries what is owed.
    pub fn question(
        &mut self,
        now: u64,
        limit: Limit,
        cost: u32,
        lease: Option<Lease>,
    ) -> Question {
        self.limit = Some(limit);
        let used_up = now < self.tokens_end;
        self.expire(now);
        let carries = !self.carried;
        let (mut owed, mut whole) = (0, None);
        if carries {
            self.carried = true;
            owed = std::mem::take(&mut self.owed);
            whole = self.here.held_at(now, limit);
            if let (Some((level, slots)), tokens @ 1..) = (&mut whole, self.tokens) {
                *level += u64::from(tokens) * REQUEST;
                slots[0] = slots[0].saturating_add(tokens);
            }
        }
        let (mut extra, mut leases) = (0, false);
        if let Some(lease) = lease.filter(|_| !self.asking) {
            self.batch = if used_up { self.batch.saturating_mul(2) } else { self.batch / 2 };
            self.batch = self.batch.clamp(1, lease.most(limit));
            extra = self.batch.saturating_sub(self.tokens.saturating_add(cost));
            self.asking = true;
            leases = true;
        }
        Question { cost, extra, generation: self.generation, owed, whole, carries, leases }
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
        self.settled(now, question, answer);
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
        if let Some(lease) = lease.filter(|_| question.leases) {
            // What is left of the batch before keeps no longer than it would have: it is lost.
            self.tokens = answer.granted - cost;
            self.tokens_end = now + lease.lives.as_micros() as u64;
        }
        Judgement { retry_after: Duration::from_micros(answer.retry_after), ..self.admitted(now) }
    }

    /// Takes note of an answer to a question that no request asked.
    pub fn settled(&mut self, now: u64, question: Question, answer: Answer) {
        if question.leases {
            self.asking = false;
        }
        if question.carries {
            // Others may hear first of a meter that was made anew; what it is owed is known only here.
            self.carried = false;
            self.generation = answer.generation;
        }
        self.room = answer.room;
        self.forgotten = now + answer.forgotten_in;
    }

    /// What to tell Redis without a request, and under which limit, if there is anything: what is owed,
    /// and `with_whole`, because Redis lost its data, everything that is not forgotten.
    pub fn settlement(&mut self, now: u64, with_whole: bool) -> Option<(Limit, Question)> {
        let limit = self.limit?;
        let due = self.owed > 0 || (with_whole && self.here.used_at(now, limit) > 0);
        if self.carried || !due {
            return None;
        }
        Some((limit, self.question(now, limit, 0, None)))
    }

    /// What was admitted here and is not forgotten.
    pub fn used_here(&mut self, now: u64, limit: Limit) -> u32 {
        self.here.used_at(now, limit)
    }

    /// No answer will come to `question`.
    pub fn given_up(&mut self, question: Question, why: Unanswered) {
        if question.leases {
            self.asking = false;
        }
        if question.carries {
            self.carried = false;
            if why == Unanswered::Untold {
                self.owed = self.owed.saturating_add(question.owed);
            }
        }
    }

    /// Decides alone, with this instance's share of the limit. A request of which Redis was told is not
    /// owed.
    pub fn share(&mut self, now: u64, share: Limit, cost: u32, why: Unanswered) -> Judgement {
        let judged = self.here.ask(now, share, cost);
        if judged.admitted && why == Unanswered::Untold {
            self.owed = self.owed.saturating_add(cost.min(share.burst));
        }
        judged
    }

    /// Takes [`Known::share`] back.
    pub fn share_back(&mut self, share: Limit, cost: u32, why: Unanswered) {
        let cost = cost.min(share.burst);
        self.here.give_back(cost);
        if why == Unanswered::Untold {
            self.owed = self.owed.saturating_sub(cost);
        }
    }

    fn expire(&mut self, now: u64) {
        if now >= self.tokens_end {
            self.tokens = 0;
        }
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
