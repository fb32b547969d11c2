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

mod known;

use super::table::Table;
use super::verdict::{By, Outcome, Verdict};
use super::who::{Counted, Who};
use super::{Asked, Charge};
use futures::StreamExt;
use known::{Answer, Known, Question};
use penstock_config::policy::{Limit, LimitMode, Limits, Resilience, Scope};
use penstock_engine::redis::{Link, Script, Trouble};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Clients that are settled at the same time.
const SETTLED_AT_ONCE: usize = 64;
/// Values per rule in the script's answer.
const ANSWERED: usize = 5;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    link: Arc<Link>,
    script: Script,
    clients: Table<Known>,
    everybody: Mutex<HashMap<u32, Known<u32>>>,
    /// Instances of the fleet, as last counted.
    instances: AtomicU32,
    /// A decision that wanted Redis went without, and not everything is settled since.
    alone: AtomicBool,
}

/// What the script says about each rule, in order.
struct Answers(Vec<Answer>);

impl Shared {
    /// Nobody has asked yet.
    pub fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            script: Script::new(include_str!("meter.lua")),
            clients: Table::default(),
            everybody: Mutex::default(),
            instances: AtomicU32::new(1),
            alone: AtomicBool::new(false),
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
        if let Some(verdict) = self.refused(asked, &clients, now) {
            return vec![verdict];
        }
        let mut of_everybody = Vec::with_capacity(everybodys.len());
        for charge in &everybodys {
            let verdict = self.ask_everybody(asked, charge, resilience, now).await;
            let refuses = verdict.refusal().is_some();
            of_everybody.push(verdict);
            if refuses {
                self.everybody_back(asked, &everybodys, &of_everybody);
                return of_everybody;
            }
        }
        let mut verdicts = match self.leased(asked, &clients, now) {
            Some(verdicts) => verdicts,
            None if clients.is_empty() => Vec::new(),
            None => self.ask_client(asked, &clients, resilience, now).await,
        };
        if verdicts.iter().any(|verdict| verdict.refusal().is_some()) {
            self.everybody_back(asked, &everybodys, &of_everybody);
            return verdicts;
        }
        verdicts.append(&mut of_everybody);
        verdicts
    }

    /// Redis said before that this client has to wait: a flood costs no round trips.
    fn refused(&self, asked: &Asked<'_>, clients: &[Charge<'_>], now: u64) -> Option<Verdict> {
        clients.iter().filter(|charge| !charge.rule.shadow).find_map(|charge| {
            let judged = self.clients.get(counted(asked, charge), |known| {
                known.refused(now, charge.limit, charge.cost)
            })??;
            Some(charge.verdict(By::Refusal, judged))
        })
    }

    /// The request is paid out of batches, if every rule has a batch.
    fn leased(&self, asked: &Asked<'_>, clients: &[Charge<'_>], now: u64) -> Option<Vec<Verdict>> {
        if asked.limits.mode != LimitMode::Leased || clients.is_empty() {
            return None;
        }
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(clients.len());
        for charge in clients {
            let (limit, cost) = (charge.limit, charge.cost);
            let judged = self.known(asked, charge, |known| {
                // Enforced rules that refuse were looked at before.
                known.refused(now, limit, cost).or_else(|| known.take(now, limit, cost))
            });
            let Some(judged) = judged else {
                for (charge, verdict) in clients.iter().zip(&verdicts) {
                    if verdict.outcome == Outcome::Admitted {
                        self.known(asked, charge, |k| k.give_back(charge.cost, charge.limit));
                    }
                }
                return None;
            };
            verdicts.push(charge.verdict(By::Lease, judged));
        }
        Some(verdicts)
    }

    /// Asks Redis about a client, and decides alone when it does not answer.
    async fn ask_client(
        &self,
        asked: &Asked<'_>,
        clients: &[Charge<'_>],
        resilience: &Resilience,
        now: u64,
    ) -> Vec<Verdict> {
        let limits = asked.limits;
        let lease = (limits.mode == LimitMode::Leased).then_some(limits.lease);
        let questions: Vec<Question> = clients
            .iter()
            .map(|charge| {
                self.known(asked, charge, |k| k.question(now, charge.limit, charge.cost, lease))
            })
            .collect();
        match self.ask(Some(asked.who), clients, &questions, resilience).await {
            Ok(Answers(answers)) => clients
                .iter()
                .zip(questions.iter().zip(answers))
                .map(|(charge, (question, answer))| {
                    let judged = self.known(asked, charge, |known| {
                        known.answered(now, charge.limit, *question, answer, lease)
                    });
                    charge.verdict(By::Redis, judged)
                })
                .collect(),
            Err(trouble) => {
                for (charge, question) in clients.iter().zip(&questions) {
                    self.known(asked, charge, |known| known.given_up(*question));
                }
                self.share_client(asked, clients, now, is_told(&trouble))
            }
        }
    }

    fn share_client(
        &self,
        asked: &Asked<'_>,
        clients: &[Charge<'_>],
        now: u64,
        told: bool,
    ) -> Vec<Verdict> {
        let instances = self.sharing(asked);
        let ask = |charge: &Charge<'_>| {
            let share = charge.limit.share(instances);
            let judged =
                self.known(asked, charge, |known| known.share(now, share, charge.cost, told));
            Charge { limit: share, ..*charge }.verdict(By::Share, judged)
        };
        let (shadows, enforced): (Vec<Charge<'_>>, Vec<Charge<'_>>) =
            clients.iter().copied().partition(|charge| charge.rule.shadow);
        let mut verdicts = Vec::with_capacity(clients.len());
        for (at, charge) in enforced.iter().enumerate() {
            verdicts.push(ask(charge));
            if verdicts[at].refusal().is_some() {
                for charge in &enforced[..at] {
                    let share = charge.limit.share(instances);
                    self.known(asked, charge, |known| known.share_back(share, charge.cost));
                }
                return verdicts;
            }
        }
        verdicts.extend(shadows.iter().map(ask));
        verdicts
    }

    /// Judges by a rule about everybody: out of a batch, or with a call for the next one.
    async fn ask_everybody(
        &self,
        asked: &Asked<'_>,
        charge: &Charge<'_>,
        resilience: &Resilience,
        now: u64,
    ) -> Verdict {
        let Charge { rule, limit, cost } = *charge;
        let lease = Some(asked.limits.lease);
        let begun = self.with_everybody(rule.id, |known| {
            if let Some(judged) = known.refused(now, limit, cost) {
                return Err((By::Refusal, judged));
            }
            match known.take(now, limit, cost) {
                Some(judged) => Err((By::Lease, judged)),
                None => Ok(known.question(now, limit, cost, lease)),
            }
        });
        let question = match begun {
            Err((by, judged)) => return charge.verdict(by, judged),
            Ok(question) => question,
        };
        match self.ask(None, &[*charge], &[question], resilience).await {
            Ok(Answers(answers)) => {
                let judged = self.with_everybody(rule.id, |known| {
                    known.answered(now, limit, question, answers[0], lease)
                });
                charge.verdict(By::Redis, judged)
            }
            Err(trouble) => {
                let share = limit.share(self.sharing(asked));
                let judged = self.with_everybody(rule.id, |known| {
                    known.given_up(question);
                    known.share(now, share, cost, is_told(&trouble))
                });
                Charge { limit: share, ..*charge }.verdict(By::Share, judged)
            }
        }
    }

    /// What a refused request took of the rules about everybody is there for others.
    fn everybody_back(&self, asked: &Asked<'_>, charges: &[Charge<'_>], verdicts: &[Verdict]) {
        for (charge, verdict) in charges.iter().zip(verdicts) {
            self.with_everybody(charge.rule.id, |known| match (verdict.outcome, verdict.by) {
                (Outcome::Admitted, By::Share) => {
                    known.share_back(charge.limit.share(self.sharing(asked)), charge.cost);
                }
                (Outcome::Admitted, _) => known.give_back(charge.cost, charge.limit),
                _ => {}
            });
        }
    }

    /// One script call about rules of `who`, or of everybody.
    async fn ask(
        &self,
        who: Option<Who>,
        charges: &[Charge<'_>],
        questions: &[Question],
        resilience: &Resilience,
    ) -> Result<Answers, Trouble> {
        let keys: Vec<String> = charges.iter().map(|charge| self.key(who, charge)).collect();
        let mut args: Vec<u64> = vec![0, self.instances().into()];
        for (charge, question) in charges.iter().zip(questions) {
            args.extend([
                charge.limit.per_minute.into(),
                charge.limit.burst.into(),
                question.cost.into(),
                question.extra.into(),
                u64::from(!charge.rule.shadow),
                question.generation,
                question.owed.into(),
                question.whole.into(),
            ]);
        }
        let asked: Result<Vec<i64>, Trouble> =
            self.link.script(resilience, &self.script, &keys, &args).await;
        let answer = asked.and_then(|numbers| read(&numbers, charges.len()));
        self.note(&answer);
        answer
    }

    /// Says it once when Redis goes; when it is back, [`Shared::settle`] does.
    fn note(&self, answer: &Result<Answers, Trouble>) {
        let Err(trouble) = answer else { return };
        if !self.alone.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %trouble,
                instances = self.instances(),
                "limits are decided here, with this instance's share"
            );
        }
    }

    /// All rules of one client are in one slot of a cluster.
    fn key(&self, who: Option<Who>, charge: &Charge<'_>) -> String {
        let rule = charge.rule;
        let who = who.map_or("everybody".to_owned(), |who| who.to_string());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if rule.name.chars().all(plain) {
            self.link.key(&format!("limit:{{{who}}}:{}", rule.name))
        } else {
            self.link.key(&format!("limit:{{{who}}}:rules#{:08x}", rule.id))
        }
    }

    fn sharing(&self, asked: &Asked<'_>) -> u32 {
        self.instances().max(asked.limits.least_instances)
    }

    /// Tells Redis, which is back, what was admitted without it: a client that comes to another instance
    /// now must not find its counts gone. Stops at the first trouble; asked again, it goes on.
    pub async fn settle(&self, limits: &Limits, resilience: &Resilience, now: u64) {
        let begun = self.clients.collect(|counted, known| {
            let rule = limits.rules.iter().position(|rule| rule.id == counted.rule)?;
            let (limit, question) = known.settlement(now)?;
            Some((counted, rule, limit, question))
        });
        let count = begun.len();
        let mut told = futures::stream::iter(begun)
            .map(|(counted, rule, limit, question)| async move {
                let rule = &limits.rules[rule];
                let (charges, questions) = ([Charge { rule, limit, cost: 0 }], [question]);
                let asked = self.ask(Some(counted.who), &charges, &questions, resilience);
                let Answers(answers) = asked.await.ok()?;
                self.clients
                    .get(counted, |known| known.answered(now, limit, question, answers[0], None));
                Some(())
            })
            .buffer_unordered(SETTLED_AT_ONCE);
        while let Some(told) = told.next().await {
            if told.is_none() {
                return;
            }
        }
        self.alone.store(false, Ordering::Relaxed);
        tracing::info!(clients = count, "Redis knows again what was admitted without it");
    }

    fn known<R>(
        &self,
        asked: &Asked<'_>,
        charge: &Charge<'_>,
        act: impl FnOnce(&mut Known) -> R,
    ) -> R {
        self.clients.with(counted(asked, charge), asked.limits.max_clients, act)
    }

    fn with_everybody<R>(&self, rule: u32, act: impl FnOnce(&mut Known<u32>) -> R) -> R {
        let mut everybody = self.everybody.lock().unwrap_or_else(PoisonError::into_inner);
        act(everybody.entry(rule).or_default())
    }
}

fn counted(asked: &Asked<'_>, charge: &Charge<'_>) -> Counted {
    Counted { who: asked.who, rule: charge.rule.id }
}

/// Redis may have done what was asked.
fn is_told(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Late { .. })
}

fn read(numbers: &[i64], rules: usize) -> Result<Answers, Trouble> {
    let unsigned: Option<Vec<u64>> = numbers.iter().map(|&n| u64::try_from(n).ok()).collect();
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let Some(numbers) = unsigned.filter(|numbers| numbers.len() == rules * ANSWERED) else {
        return Err(Trouble::Rejected(format!("the answer has {} numbers", numbers.len())));
    };
    let answers = numbers.chunks_exact(ANSWERED).map(|rule| Answer {
        granted: count(rule[0]),
        room: count(rule[1]),
        retry_after: rule[2],
        forgotten_in: rule[3],
        generation: rule[4],
    });
    Ok(Answers(answers.collect()))
}

#[cfg(test)]
mod tests;
