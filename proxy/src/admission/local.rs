//! Deciding in this process alone.

use super::meter::{Count, Judgement, Meter};
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

/// What is done to a meter.
#[derive(Debug, Clone, Copy)]
enum Act {
    Ask,
    Look,
    /// Of a request that this rule would have let pass.
    GiveBack,
}

impl Act {
    fn on<C: Count>(self, meter: &mut Meter<C>, charge: &Charge<'_>, now: u64) -> Judgement {
        let (limit, cost) = (charge.limit, charge.cost);
        match self {
            Self::Ask => meter.ask(now, limit, cost),
            Self::Look => meter.look(now, limit, cost),
            Self::GiveBack => {
                meter.give_back(cost.min(limit.burst));
                Judgement { admitted: true, ..meter.look(now, limit, cost) }
            }
        }
    }
}

impl Local {
    /// Judges a request by all rules about it and counts it under each, or under none.
    pub(super) fn judge(&self, asked: &Asked<'_>, now: u64) -> Vec<Verdict> {
        let enforced = || asked.charges().filter(|charge| charge.rule.refuses());
        let others = asked.charges().filter(|charge| !charge.rule.refuses());
        let mut verdicts = Vec::with_capacity(2);
        for charge in enforced() {
            let judged = self.meter(asked, &charge, now, Act::Ask);
            verdicts.push(charge.verdict(By::Local, judged));
            if judged.admitted {
                continue;
            }
            // A request that does not pass is not counted anywhere.
            let counted = verdicts.len() - 1;
            for (charge, verdict) in enforced().zip(&mut verdicts[..counted]) {
                *verdict =
                    charge.verdict(By::Local, self.meter(asked, &charge, now, Act::GiveBack));
            }
            // Another rule may let it wait longer.
            let further = enforced().skip(counted + 1);
            verdicts.extend(further.map(|charge| {
                charge.verdict(By::Local, self.meter(asked, &charge, now, Act::Look))
            }));
            return verdicts;
        }
        verdicts
            .extend(others.map(|charge| {
                charge.verdict(By::Local, self.meter(asked, &charge, now, Act::Ask))
            }));
        verdicts
    }

    pub(super) fn used(&self, counted: Counted, now: u64, limit: Limit) -> Option<u32> {
        self.clients.get(counted, |meter| meter.used_at(now, limit))
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Does `act` to the meter of a rule.
    fn meter(&self, asked: &Asked<'_>, charge: &Charge<'_>, now: u64, act: Act) -> Judgement {
        let rule = charge.rule.id;
        match charge.rule.scope {
            Scope::Global => self.everybody.with(rule, |meter| act.on(meter, charge, now)),
            Scope::Address | Scope::Key => {
                let who = Counted { who: asked.who, rule };
                self.clients.with(who, asked.limits.max_clients, |m| act.on(m, charge, now))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn knows(&self, who: super::Who, rule: u32) -> bool {
        self.clients.get(Counted { who, rule }, |_| ()).is_some()
    }
}
