//! One call of the script, and what becomes of its questions however it ends.

use super::Shared;
use super::known::{Answer, Known, Question, Unanswered};
use crate::admission::verdict::{By, Verdict};
use crate::admission::who::Who;
use crate::admission::{Asked, Charge};
use penstock_config::policy::{Lease, Resilience};
use penstock_engine::redis::Trouble;
use std::sync::atomic::Ordering;

/// Values per rule in the script's answer.
const ANSWERED: usize = 5;

/// What the script says about each rule, in order.
pub(super) type Answers = Vec<Answer>;

/// Questions that are out. Dropped without an answer, because whoever asked is gone, they count as told:
/// nothing they carry waits for ever.
pub(super) struct Out<'o, F: Fn(usize, &Question, Unanswered)> {
    questions: &'o [Question],
    give_up: F,
    over: bool,
}

impl<'o, F: Fn(usize, &Question, Unanswered)> Out<'o, F> {
    pub fn new(questions: &'o [Question], give_up: F) -> Self {
        Self { questions, give_up, over: false }
    }

    /// All have their answers.
    pub fn answered(mut self) {
        self.over = true;
    }

    /// There will be none.
    pub fn given_up(mut self, why: Unanswered) {
        self.end(why);
    }

    fn end(&mut self, why: Unanswered) {
        if !std::mem::replace(&mut self.over, true) {
            for (at, question) in self.questions.iter().enumerate() {
                (self.give_up)(at, question, why);
            }
        }
    }
}

impl<F: Fn(usize, &Question, Unanswered)> Drop for Out<'_, F> {
    fn drop(&mut self) {
        self.end(Unanswered::Told);
    }
}

impl Shared {
    /// Asks Redis about a client's rules.
    pub(super) async fn call_about_client(
        &self,
        asked: &Asked<'_>,
        clients: &[Charge<'_>],
        lease: Option<Lease>,
        resilience: &Resilience,
        now: u64,
    ) -> Result<Vec<Verdict>, Unanswered> {
        let ask = |charge: &Charge<'_>, known: &mut Known| {
            known.question(now, charge.limit, charge.cost, lease)
        };
        let questions: Vec<Question> =
            clients.iter().map(|charge| self.known(asked, charge, |k| ask(charge, k))).collect();
        let out = Out::new(&questions, |at, question, why| {
            self.known(asked, &clients[at], |known| known.given_up(*question, why));
        });
        match self.call(Some(asked.who), clients, &questions, resilience).await {
            Ok(answers) => {
                out.answered();
                let all = clients.iter().zip(questions.iter().zip(answers));
                let verdict = |(charge, (question, answer)): (&Charge<'_>, (&Question, Answer))| {
                    let judged = self.known(asked, charge, |known| {
                        known.answered(now, charge.limit, *question, answer, lease)
                    });
                    charge.verdict(By::Redis, judged)
                };
                Ok(all.map(verdict).collect())
            }
            Err(trouble) => {
                let why = told(&trouble);
                out.given_up(why);
                Err(why)
            }
        }
    }

    /// One script call about rules of `who`, or of everybody.
    pub(super) async fn call(
        &self,
        who: Option<Who>,
        charges: &[Charge<'_>],
        questions: &[Question],
        resilience: &Resilience,
    ) -> Result<Answers, Trouble> {
        let keys: Vec<String> = charges.iter().map(|charge| self.key(who, charge)).collect();
        let number = |number: u64| number.to_string().into_bytes();
        let mut args = vec![number(0), number(self.instances().into())];
        for (charge, question) in charges.iter().zip(questions) {
            args.extend(arguments(charge, question));
        }
        let asked: Result<Vec<i64>, Trouble> =
            self.link.script(resilience, &self.script, &keys, &args).await;
        let answer = asked.and_then(|numbers| read(&numbers, charges.len()));
        if let Err(trouble) = &answer {
            self.note(trouble);
        }
        answer
    }

    /// Says it once when Redis goes; when it is back, [`Shared::settle`] does.
    fn note(&self, trouble: &Trouble) {
        self.troubles.fetch_add(1, Ordering::Relaxed);
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
        let who = who.map_or("everybody".to_owned(), |who| who.to_string());
        self.link.key(&format!("limit:{{{who}}}:{}", charge.rule.name))
    }
}

/// What the script wants to know of a rule.
pub(super) fn arguments(charge: &Charge<'_>, question: &Question) -> Vec<Vec<u8>> {
    let (level, slots) = match &question.whole {
        None => (0, Vec::new()),
        Some((level, slots)) => (*level, slots.iter().flat_map(|n| n.to_be_bytes()).collect()),
    };
    let numbers = [
        charge.limit.per_minute.into(),
        charge.limit.burst.into(),
        question.cost.into(),
        question.extra.into(),
        u64::from(charge.rule.refuses()),
        question.generation,
        question.owed.into(),
        level,
    ];
    let mut arguments: Vec<_> =
        numbers.into_iter().map(|number: u64| number.to_string().into_bytes()).collect();
    arguments.push(slots);
    arguments
}

/// Whether Redis most likely did what it was asked, only too late.
pub(super) fn told(trouble: &Trouble) -> Unanswered {
    match trouble {
        Trouble::Late { .. } => Unanswered::Told,
        _ => Unanswered::Untold,
    }
}

pub(super) fn read(numbers: &[i64], rules: usize) -> Result<Answers, Trouble> {
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
    Ok(answers.collect())
}
