//! Deciding together with the rest of the fleet, through Redis.
//!
//! One script call per request asks all of its client's rules at once ([`meter.lua`](../meter.lua), the
//! same meter in Redis, with Redis' clock). Fewer calls are needed where Redis already said how long the
//! client has to wait, and where requests are taken in batches (`mode = "leased"`, and always for rules
//! about everybody, whose keys are elsewhere on a cluster).
//!
//! When Redis does not answer, this instance goes on with its share: the limit divided by the instances
//! that were last counted. Everything admitted is remembered here as well, so that
//!
//! - what a client used before Redis went counts against its share;
//! - what it used of the share is owed, and paid when Redis is back;
//! - a Redis that comes back empty is told everything that is not forgotten yet.
//!
//! In the 60 seconds around a change from one to the other the fleet admits at most twice the burst, and
//! the burst itself when the client's requests are spread evenly over the instances.

mod call;
mod everybody;
mod known;
mod settle;

use super::table::Table;
use super::verdict::{By, Outcome, Verdict};
use super::who::Counted;
use super::{Asked, Charge};
use everybody::Everybody;
use known::{Known, Unanswered};
use penstock_config::policy::{Limit, LimitMode, Resilience, Scope};
use penstock_engine::redis::{Link, Script};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Shared {
    link: Arc<Link>,
    script: Script,
    clients: Table<Known>,
    everybody: Everybody,
    /// Instances of the fleet, as last counted.
    instances: AtomicU32,
    /// A decision that wanted Redis went without, and not everything is settled since.
    alone: AtomicBool,
    /// Calls that were not answered, ever.
    troubles: AtomicU64,
}

impl Shared {
    /// Nobody has asked yet.
    pub fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            script: Script::new(include_str!("meter.lua")),
            clients: Table::default(),
            everybody: Everybody::default(),
            instances: AtomicU32::new(1),
            alone: AtomicBool::new(false),
            troubles: AtomicU64::new(0),
        }
    }

    /// Takes note of the size of the fleet.
    pub fn counted(&self, instances: u32) {
        self.instances.store(instances.max(1), Ordering::Relaxed);
    }

    /// Instances of the fleet, as last counted; at least 1.
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    /// This instance decides with its share, or did and has not told Redis yet.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    pub(super) fn used(&self, counted: Counted, now: u64, limit: Limit) -> Option<u32> {
        self.clients.get(counted, |known| known.used_here(now, limit))
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Judges a request by all rules about it.
    pub(super) async fn judge(
        &self,
        asked: &Asked<'_>,
        resilience: &Resilience,
        now: u64,
    ) -> Vec<Verdict> {
        let (everybodys, clients): (Vec<_>, Vec<_>) =
            asked.charges().partition(|charge| charge.rule.scope == Scope::Global);
        let refused = self.refused(asked, &clients, now);
        if !refused.is_empty() {
            return refused;
        }
        let mut of_everybody = self.ask_everybody(asked, &everybodys, resilience, now).await;
        if refuses(&of_everybody) {
            self.everybody_back(asked, &everybodys, &of_everybody);
            return of_everybody;
        }
        let mut verdicts = self.ask_client(asked, &clients, resilience, now).await;
        if refuses(&verdicts) {
            self.everybody_back(asked, &everybodys, &of_everybody);
        } else {
            verdicts.append(&mut of_everybody);
        }
        verdicts
    }

    /// Redis said before that this client has to wait: a flood costs no round trips.
    fn refused(&self, asked: &Asked<'_>, clients: &[Charge<'_>], now: u64) -> Vec<Verdict> {
        let enforced = clients.iter().filter(|charge| charge.rule.refuses());
        let refused = enforced.filter_map(|charge| {
            let judged = self.clients.get(counted(asked, charge), |known| {
                known.refused(now, charge.limit, charge.cost)
            })??;
            Some(charge.verdict(By::Refusal, judged))
        });
        refused.collect()
    }

    /// Judges by a client's rules: out of batches where there are some, the rest with one call.
    async fn ask_client(
        &self,
        asked: &Asked<'_>,
        clients: &[Charge<'_>],
        resilience: &Resilience,
        now: u64,
    ) -> Vec<Verdict> {
        let leased = asked.limits.mode == LimitMode::Leased;
        let mut taken = Vec::new();
        let (mut verdicts, mut to_ask) = (Vec::new(), Vec::new());
        for charge in clients {
            let (limit, cost) = (charge.limit, charge.cost);
            // Enforced rules that refuse were looked at before; the others need not be asked again.
            let judged = self.known(asked, charge, |known| {
                known
                    .refused(now, limit, cost)
                    .or_else(|| leased.then(|| known.take(now, limit, cost)).flatten())
            });
            let Some(judged) = judged else {
                to_ask.push(*charge);
                continue;
            };
            if judged.admitted {
                taken.push(*charge);
            }
            let by = if judged.admitted { By::Lease } else { By::Refusal };
            verdicts.push(charge.verdict(by, judged));
        }
        if !to_ask.is_empty() {
            let lease = leased.then_some(asked.limits.lease);
            let answered = self.call_about_client(asked, &to_ask, lease, resilience, now).await;
            verdicts.extend(match answered {
                Ok(verdicts) => verdicts,
                Err(why) => self.share_client(asked, &to_ask, now, why),
            });
        }
        if refuses(&verdicts) {
            for charge in &taken {
                self.known(asked, charge, |known| known.give_back(charge.cost, charge.limit));
            }
        }
        verdicts
    }

    fn share_client(
        &self,
        asked: &Asked<'_>,
        clients: &[Charge<'_>],
        now: u64,
        why: Unanswered,
    ) -> Vec<Verdict> {
        let instances = self.sharing(asked);
        let ask = |charge: &Charge<'_>| {
            let share = charge.limit.share(instances);
            let judged =
                self.known(asked, charge, |known| known.share(now, share, charge.cost, why));
            Charge { limit: share, ..*charge }.verdict(By::Share, judged)
        };
        let enforced = || clients.iter().filter(|charge| charge.rule.refuses());
        let mut verdicts: Vec<Verdict> = enforced().map(ask).collect();
        if refuses(&verdicts) {
            for (charge, verdict) in enforced().zip(&verdicts) {
                if verdict.outcome == Outcome::Admitted {
                    let share = charge.limit.share(instances);
                    self.known(asked, charge, |k| k.share_back(share, charge.cost, why));
                }
            }
            return verdicts;
        }
        verdicts.extend(clients.iter().filter(|charge| !charge.rule.refuses()).map(ask));
        verdicts
    }

    fn sharing(&self, asked: &Asked<'_>) -> u32 {
        self.instances().max(asked.limits.least_instances)
    }

    fn known<R>(
        &self,
        asked: &Asked<'_>,
        charge: &Charge<'_>,
        act: impl FnOnce(&mut Known) -> R,
    ) -> R {
        self.clients.with(counted(asked, charge), asked.limits.max_clients, act)
    }
}

fn counted(asked: &Asked<'_>, charge: &Charge<'_>) -> Counted {
    Counted { who: asked.who, rule: charge.rule.id }
}

fn refuses(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|verdict| verdict.outcome == Outcome::Refused)
}

#[cfg(test)]
mod tests;
