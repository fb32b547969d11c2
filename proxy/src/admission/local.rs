//! Deciding in this process alone.

use super::meter::{Judgement, Meter};
use super::table::{Entry, Table};
use super::verdict::{By, Verdict};
use super::who::Counted;
use super::{Asked, Charge};
use penstock_config::policy::{Limit, Scope};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

impl Entry for Meter {
    fn worth(&self) -> u64 {
        self.used()
    }
}

/// What everybody used together of each global rule.
#[derive(Debug, Default)]
pub struct Everybody(Mutex<HashMap<u32, Meter<u32>>>);

impl Everybody {
    pub(super) fn with<R>(&self, rule: u32, act: impl FnOnce(&mut Meter<u32>) -> R) -> R {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(meters.entry(rule).or_default())
    }
}

/// All counts of this process.
#[derive(Debug, Default)]
pub struct Local {
    clients: Table<Meter>,
    everybody: Everybody,
}

impl Local {
    /// Judges a request by all rules about it and counts it under each, or under none.
    pub(super) fn judge(&self, asked: &Asked<'_>, now: u64) -> Vec<Verdict> {
        let enforced = || asked.charges().filter(|charge| !charge.rule.shadow);
        let shadows = asked.charges().filter(|charge| charge.rule.shadow);
        let mut verdicts = Vec::with_capacity(2);
        for charge in enforced() {
            let judged = self.ask(asked, &charge, now);
            verdicts.push(charge.verdict(By::Local, judged));
            if judged.admitted {
                continue;
            }
            // A request that does not pass is not counted anywhere.
            let counted = verdicts.len() - 1;
            for (charge, verdict) in enforced().zip(&mut verdicts[..counted]) {
                *verdict = charge.verdict(By::Local, self.give_back(asked, &charge, now));
            }
            // Another rule may let it wait longer.
            let others = enforced().skip(counted + 1);
            verdicts.extend(
                others.map(|charge| charge.verdict(By::Local, self.look(asked, &charge, now))),
            );
            return verdicts;
        }
        verdicts
            .extend(shadows.map(|charge| charge.verdict(By::Local, self.ask(asked, &charge, now))));
        verdicts
    }

    pub(super) fn used(&self, counted: Counted, now: u64, limit: Limit) -> Option<u32> {
        self.clients.get(counted, |meter| meter.used_at(now, limit))
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    fn ask(&self, asked: &Asked<'_>, charge: &Charge<'_>, now: u64) -> Judgement {
        let Charge { rule, limit, cost } = *charge;
        match rule.scope {
            Scope::Global => self.everybody.with(rule.id, |meter| meter.ask(now, limit, cost)),
            Scope::Address | Scope::Key => {
                let who = Counted { who: asked.who, rule: rule.id };
                self.clients.with(who, asked.limits.max_clients, |m| m.ask(now, limit, cost))
            }
        }
    }

    fn look(&self, asked: &Asked<'_>, charge: &Charge<'_>, now: u64) -> Judgement {
        let Charge { rule, limit, cost } = *charge;
        match rule.scope {
            Scope::Global => self.everybody.with(rule.id, |meter| meter.look(now, limit, cost)),
            Scope::Address | Scope::Key => {
                let who = Counted { who: asked.who, rule: rule.id };
                self.clients.with(who, asked.limits.max_clients, |m| m.look(now, limit, cost))
            }
        }
    }

    fn give_back(&self, asked: &Asked<'_>, charge: &Charge<'_>, now: u64) -> Judgement {
        fn again<C: super::meter::Count>(
            meter: &mut Meter<C>,
            now: u64,
            limit: Limit,
            cost: u32,
        ) -> Judgement {
            meter.give_back(cost.min(limit.burst));
            // It would have passed this rule.
            Judgement { admitted: true, ..meter.look(now, limit, cost) }
        }
        let Charge { rule, limit, cost } = *charge;
        match rule.scope {
            Scope::Global => self.everybody.with(rule.id, |meter| again(meter, now, limit, cost)),
            Scope::Address | Scope::Key => {
                let who = Counted { who: asked.who, rule: rule.id };
                self.clients.with(who, asked.limits.max_clients, |m| again(m, now, limit, cost))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn knows(&self, who: super::Who, rule: u32) -> bool {
        self.clients.get(Counted { who, rule }, |_| ()).is_some()
    }
}
