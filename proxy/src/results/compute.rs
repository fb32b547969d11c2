//! Having the engine answer, on a rung of the ladder.

use super::ask::Ask;
use super::ladder::{Ladder, Step};
use crate::app::App;
use crate::respond::{Kind, Problem};
use penstock_config::policy::Policy;
use penstock_engine::resilience::AtMost;
use penstock_engine::serve::{Answer, Engine};
use std::sync::Arc;
use std::time::Duration;

/// The engine's answer to `ask`, in the mode `step` leaves it. Where it has no thread for that, or does not come
/// back within `patience`, it is asked for what is popular, which needs none.
pub async fn compute(
    app: &App,
    engine: &Engine,
    policy: &Arc<Policy>,
    ask: &Ask,
    step: Step,
    patience: Duration,
) -> Result<Answer, Problem> {
    match put(engine, policy, ask, step.most().clone(), patience).await {
        Ok(answer) => {
            step.answered(app, policy, answer.trace.waited_micros);
            Ok(answer)
        }
        Err(problem) if matches!(problem.kind, Kind::Overloaded | Kind::EngineLate) => {
            // Its place is given back, and has taught nothing.
            drop(step);
            let most = Ladder::gave_up(app, ask.endpoint());
            put(engine, policy, ask, most, patience).await
        }
        Err(problem) => Err(problem),
    }
}

/// Asks, and waits at most `patience`: the engine has its own deadlines, so it only passes when it is stuck.
async fn put(
    engine: &Engine,
    policy: &Arc<Policy>,
    ask: &Ask,
    most: AtMost,
    patience: Duration,
) -> Result<Answer, Problem> {
    match tokio::time::timeout(patience, ask.clone().put(engine, policy.clone(), most)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            tracing::error!(?patience, "the engine did not come back");
            Err(late())
        }
    }
}

/// No answer in time.
pub fn late() -> Problem {
    Problem::new(Kind::EngineLate, "the ranking engine did not answer in time")
        .retry_after(Duration::from_secs(1))
}
