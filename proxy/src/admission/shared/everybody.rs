//! Rules about everybody: out of batches, since their keys are in other slots of a cluster than a client's.

use super::call::{Out, told};
use super::known::{Known, Question, Unanswered};
use super::{Shared, refuses};
use crate::admission::meter::Judgement;
use crate::admission::verdict::{By, Outcome, Verdict};
use crate::admission::{Asked, Charge};
use futures::future::join_all;
use penstock_config::policy::Resilience;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What this instance knows of each rule about everybody, by the rule's id.
#[derive(Debug, Default)]
pub(super) struct Everybody(Mutex<HashMap<u32, Known<u32>>>);

impl Everybody {
    pub fn with<R>(&self, rule: u32, act: impl FnOnce(&mut Known<u32>) -> R) -> R {
        let mut everybody = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(everybody.entry(rule).or_default())
    }
}

/// What can be said without Redis, or what to ask it.
enum Begun {
    Judged(By, Judgement),
    Ask(Question),
}

impl Shared {
    /// Judges by all rules about everybody, at the same time.
    pub(super) async fn ask_everybody(
        &self,
        asked: &Asked<'_>,
        charges: &[Charge<'_>],
        resilience: &Resilience,
        now: u64,
    ) -> Vec<Verdict> {
        let begun: Vec<Begun> =
            charges.iter().map(|charge| self.begin(asked, charge, now)).collect();
        let asking = charges.iter().zip(begun).map(|(charge, begun)| async move {
            match begun {
                Begun::Judged(by, judged) => charge.verdict(by, judged),
                Begun::Ask(question) => {
                    self.ask_about_everybody(asked, charge, question, resilience, now).await
                }
            }
        });
        join_all(asking).await
    }

    fn begin(&self, asked: &Asked<'_>, charge: &Charge<'_>, now: u64) -> Begun {
        let Charge { rule, limit, cost } = *charge;
        self.everybody.with(rule.id, |known| {
            if let Some(judged) = known.refused(now, limit, cost) {
                return Begun::Judged(By::Refusal, judged);
            }
            match known.take(now, limit, cost) {
                Some(judged) => Begun::Judged(By::Lease, judged),
                None => Begun::Ask(known.question(now, limit, cost, Some(asked.limits.lease))),
            }
        })
    }

    async fn ask_about_everybody(
        &self,
        asked: &Asked<'_>,
        charge: &Charge<'_>,
        question: Question,
        resilience: &Resilience,
        now: u64,
    ) -> Verdict {
        let Charge { rule, limit, cost } = *charge;
        let questions = [question];
        let out = Out::new(&questions, |_, question, why| {
            self.everybody.with(rule.id, |known| known.given_up(*question, why));
        });
        match self.call(None, &[*charge], &questions, resilience).await {
            Ok(answers) => {
                out.answered();
                let lease = Some(asked.limits.lease);
                let judged = self
                    .everybody
                    .with(rule.id, |known| known.answered(now, limit, question, answers[0], lease));
                charge.verdict(By::Redis, judged)
            }
            Err(trouble) => {
                let why = told(&trouble);
                out.given_up(why);
                let share = limit.share(self.sharing(asked));
                let judged =
                    self.everybody.with(rule.id, |known| known.share(now, share, cost, why));
                Charge { limit: share, ..*charge }.verdict(By::Share, judged)
            }
        }
    }

    /// What a refused request took of the rules about everybody is there for others.
    pub(super) fn everybody_back(
        &self,
        asked: &Asked<'_>,
        charges: &[Charge<'_>],
        verdicts: &[Verdict],
    ) {
        for (charge, verdict) in charges.iter().zip(verdicts) {
            self.everybody.with(charge.rule.id, |known| match (verdict.outcome, verdict.by) {
                (Outcome::Admitted, By::Share) => {
                    let share = charge.limit.share(self.sharing(asked));
                    // Counted too much at worst, never too little.
                    known.share_back(share, charge.cost, Unanswered::Told);
                }
                (Outcome::Admitted, _) => known.give_back(charge.cost, charge.limit),
                _ => {}
            });
        }
        debug_assert!(charges.len() == verdicts.len() || refuses(verdicts));
    }
}
