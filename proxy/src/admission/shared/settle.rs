//! Telling a Redis that is back what was admitted without it.

use super::Shared;
use super::call::Out;
use super::known::Question;
use crate::admission::Charge;
use crate::admission::who::Counted;
use futures::StreamExt;
use penstock_config::policy::{Limit, Limits, Resilience};
use penstock_engine::redis::Trouble;
use std::sync::atomic::Ordering;

/// Clients that are settled at the same time.
const AT_ONCE: usize = 64;

impl Shared {
    /// Tells Redis what is owed: a client that comes to another instance now must not find its counts
    /// gone. `lost`: Redis lost its data, so that everything is told that is not forgotten. What cannot
    /// be told stays owed, for the next time.
    pub async fn settle(&self, limits: &Limits, resilience: &Resilience, lost: bool, now: u64) {
        let troubles = self.troubles.load(Ordering::Relaxed);
        let due = self.clients.collect(|counted, known| {
            let rule = limits.rules.iter().position(|rule| rule.id == counted.rule)?;
            let (limit, question) = known.settlement(now, lost)?;
            Some((counted, rule, limit, question))
        });
        let count = due.len();
        let telling = futures::stream::iter(due).map(|(counted, rule, limit, question)| {
            self.settle_one(limits, resilience, counted, rule, limit, question, now)
        });
        let told = telling.buffer_unordered(AT_ONCE).filter(|told| std::future::ready(*told));
        let told = told.count().await;
        if count > 0 {
            tracing::info!(clients = count, told, lost, "told Redis what was admitted without it");
        }
        if self.troubles.load(Ordering::Relaxed) == troubles && self.link.is_connected() {
            self.alone.store(false, Ordering::Relaxed);
        }
    }

    #[allow(clippy::too_many_arguments)] // one row of `settle`
    async fn settle_one(
        &self,
        limits: &Limits,
        resilience: &Resilience,
        counted: Counted,
        rule: usize,
        limit: Limit,
        question: Question,
        now: u64,
    ) -> bool {
        let charges = [Charge { rule: &limits.rules[rule], limit, cost: 0 }];
        let questions = [question];
        let out = Out::new(&questions, |_, question, why| {
            self.clients.get(counted, |known| known.given_up(*question, why));
        });
        match self.call(Some(counted.who), &charges, &questions, resilience).await {
            Ok(answers) => {
                out.answered();
                self.clients.get(counted, |known| known.settled(now, question, answers[0]));
                true
            }
            // It would be refused again.
            Err(Trouble::Rejected(_)) => false,
            Err(trouble) => {
                out.given_up(super::call::told(&trouble));
                false
            }
        }
    }
}
