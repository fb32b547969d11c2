//! The ladder: how much to do for one request, decided in one place.
//!
//! Four things may ask for less than everything: a limit rule that degrades instead of refusing, the
//! load, the time that is left, and a dependency whose breaker is open. Each names the best rung it
//! allows, and the lowest of these is taken. A rung is a [`Mode`]; from `stale` on nothing is computed
//! that has to wait, and only when there is not even room for that, the request is refused.
//!
//! A pure function: nothing is remembered from one request to the next, so whatever went down the
//! ladder comes back by itself as soon as its cause is gone.

use super::Mode;
use penstock_config::policy::LoadPolicy;
use std::time::Duration;

/// The rungs on which something is computed, best first.
pub const COMPUTED: [Mode; 4] =
    [Mode::Full, Mode::KeywordOnly, Mode::Unpersonalised, Mode::Popular];

/// What a mode usually takes now, waiting included; `None`: it was not used lately. By its place in
/// [`COMPUTED`].
pub type Usual = [Option<Duration>; COMPUTED.len()];

/// All that is known when a request is about to be answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Situation {
    /// Of the limit in use; more than 1 where cheap answers come on top.
    pub utilisation: f64,
    /// What answers to such a request usually take.
    pub usual: Usual,
    /// Until the request's deadline.
    pub left: Duration,
    /// The answer would read the user's history, and the store's breaker is open.
    pub history_is_shut: bool,
    /// There is an older answer.
    pub stale: bool,
    /// The best mode a limit rule allows.
    pub cap: Mode,
}

/// Why less than everything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Everything is done.
    Nothing,
    /// The client is over a limit that degrades.
    Limit,
    /// The engine has much to do.
    Load,
    /// A better answer would not be there in time.
    Time,
    /// The store's breaker is open.
    Store,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nothing, Self::Limit, Self::Load, Self::Time, Self::Store];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Limit => "limit",
            Self::Load => "load",
            Self::Time => "time",
            Self::Store => "store",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To answer, at best in this mode; [`Mode::Stale`]: with the older answer.
    Answer {
        /// The rung.
        mode: Mode,
        /// Why it is no better one.
        why: Why,
    },
    /// Not even what is popular.
    Refuse,
}

/// Decides how much to do.
pub fn decide(policy: &LoadPolicy, situation: &Situation) -> Verdict {
    let full = policy.enabled && situation.utilisation >= policy.refuse;
    if full && !situation.stale {
        return Verdict::Refuse;
    }
    let by_store = if situation.history_is_shut { Mode::Unpersonalised } else { Mode::Full };
    let asked = [
        (situation.cap, Why::Limit),
        (by_load(policy, situation), Why::Load),
        (by_time(situation), Why::Time),
        (by_store, Why::Store),
    ];
    let mut lowest = (Mode::Full, Why::Nothing);
    for rung in asked {
        if rung.0 > lowest.0 {
            lowest = rung;
        }
    }
    let (mode, why) = lowest;
    let mode = match mode {
        // What is old is about what was asked; what is popular is not.
        Mode::Stale | Mode::Popular if situation.stale => Mode::Stale,
        Mode::Stale => Mode::Popular,
        // Nobody asks for less than everything by leaving the words out.
        Mode::SemanticOnly => Mode::Unpersonalised,
        mode => mode,
    };
    Verdict::Answer { mode, why }
}

fn by_load(policy: &LoadPolicy, situation: &Situation) -> Mode {
    let used = situation.utilisation;
    if !policy.enabled || used < policy.keyword_only {
        Mode::Full
    } else if used < policy.unpersonalised {
        Mode::KeywordOnly
    } else if used >= policy.popular {
        Mode::Popular
    } else if used >= policy.stale && situation.stale {
        Mode::Stale
    } else {
        Mode::Unpersonalised
    }
}

/// The best rung that is there in time, by what it usually takes. One that was not used lately is
/// tried: that is how a better one comes back.
fn by_time(situation: &Situation) -> Mode {
    let in_time = |usual: &Option<Duration>| usual.is_none_or(|usual| usual <= situation.left);
    let best = situation.usual.iter().position(in_time);
    best.map_or(Mode::Popular, |place| COMPUTED[place])
}

#[cfg(test)]
mod tests;
