//! What the rules said about a request, and how it is told.

use super::meter::Judgement;
use crate::respond::{Kind, Problem, whole_seconds};
use penstock_config::policy::{OverLimit, Rule, Scope};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use std::time::Duration;

/// What became of a request under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Admitted,
    /// It did not.
    Refused,
    /// It passed because the rule is a shadow.
    WouldRefuse,
    /// It passed, to be answered in a cheaper mode.
    Degraded,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// This instance, which is alone.
    Local,
    /// Redis, for the whole fleet.
    Redis,
    /// This instance, out of a batch that Redis gave it.
    Lease,
    /// This instance, which Redis told before that the client has to wait.
    Refusal,
    /// This instance with its share of the limit, because Redis does not answer.
    Share,
}

impl By {
    /// All of them; one's position is `by as usize`.
    pub const ALL: [Self; 5] = [Self::Local, Self::Redis, Self::Lease, Self::Refusal, Self::Share];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redis => "redis",
            Self::Lease => "lease",
            Self::Refusal => "refusal",
            Self::Share => "share",
        }
    }
}

/// What a rule said about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its name.
    #[serde(serialize_with = "text")]
    pub rule: Arc<str>,
    /// Whose requests were counted.
    pub scope: &'static str,
    /// As what.
    pub class: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// Who decided.
    pub by: By,
    /// What it counted.
    pub cost: u32,
    /// Requests in any 60 seconds.
    pub limit: u32,
    /// Of these, left.
    pub remaining: u32,
    /// Until a request like this one would pass, whole seconds rounded up; absent when one would now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// Until all of the limit is there again, whole seconds rounded up.
    pub reset_seconds: u64,
}

impl Verdict {
    /// Of what `judged` says about a request that counts `cost`, under `rule` with the burst `limit`.
    pub(super) fn of(rule: &Rule, limit: u32, cost: u32, by: By, judged: Judgement) -> Self {
        let outcome = match (judged.admitted, rule.shadow, rule.over_limit) {
            (true, _, _) => Outcome::Admitted,
            (false, true, _) => Outcome::WouldRefuse,
            (false, false, OverLimit::Refuse) => Outcome::Refused,
            (false, false, OverLimit::Degrade) => Outcome::Degraded,
        };
        let wait = whole_seconds(judged.retry_after);
        Self {
            rule: rule.name.clone(),
            scope: rule.scope.name(),
            class: rule.class.name(),
            outcome,
            by,
            cost,
            limit,
            remaining: judged.remaining,
            retry_after_seconds: (wait > 0).then_some(wait),
            reset_seconds: whole_seconds(judged.reset),
        }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<Problem> {
        if self.outcome != Outcome::Refused {
            return None;
        }
        let wait = self.retry_after_seconds.unwrap_or(1);
        let whose = match self.scope {
            "key" => "with your API key",
            "global" => "from all clients together",
            _ => "from your address",
        };
        let Self { limit, class, .. } = self;
        let detail = format!(
            "more than {limit} {class} requests in a minute {whose}; the next one passes in {wait} s"
        );
        Some(Problem::new(Kind::TooManyRequests, detail).retry_after(Duration::from_secs(wait)))
    }

    /// It is the client's to know: it refuses, or it is enforced and about nobody else.
    fn is_told(&self) -> bool {
        match self.outcome {
            Outcome::Refused => true,
            Outcome::Admitted | Outcome::Degraded => self.scope != Scope::Global.name(),
            Outcome::WouldRefuse => false,
        }
    }
}

/// The response headers that tell what is left, `(name, value)`: the customary ones of the rule that
/// leaves least, and those of the IETF draft "RateLimit header fields for HTTP" of all. Shadow rules and
/// what others use are nobody's business.
pub fn headers(verdicts: &[Verdict]) -> Vec<(&'static str, String)> {
    let told = || verdicts.iter().filter(|verdict| verdict.is_told());
    let left = |verdict: &&Verdict| (verdict.outcome != Outcome::Refused, verdict.remaining);
    let Some(least) = told().min_by_key(left) else {
        return Vec::new();
    };
    let list = |of: fn(&Verdict) -> String| told().map(of).collect::<Vec<_>>().join(", ");
    vec![
        ("X-RateLimit-Limit", least.limit.to_string()),
        ("X-RateLimit-Remaining", least.remaining.to_string()),
        ("X-RateLimit-Reset", least.reset_seconds.to_string()),
        ("RateLimit-Policy", list(|v| format!("\"{}\";q={};w=60", v.label(), v.limit))),
        (
            "RateLimit",
            list(|v| {
                let refilled = v.retry_after_seconds.unwrap_or(v.reset_seconds);
                format!("\"{}\";r={};t={refilled}", v.label(), v.remaining)
            }),
        ),
    ]
}

impl Verdict {
    /// The rule's name as clients see it: the class, or the operator's own name.
    fn label(&self) -> &str {
        match self.rule.strip_prefix("rules.") {
            Some(own) => own,
            None if self.scope == Scope::Global.name() => "everybody",
            None => self.class,
        }
    }
}

fn text<S: Serializer>(rule: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(rule)
}
