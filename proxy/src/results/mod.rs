//! Our own endpoints: each takes a route's part of the request and makes a reply or a problem.

mod events;
mod ladder;

pub use ladder::{Ladder, Step};

use crate::app::App;
use crate::context::Context;
use crate::decision::micros;
use crate::params;
use crate::respond::{Kind, Problem, Reply};
use crate::route::Route;
use futures::FutureExt;
use penstock_engine::resilience::AtMost;
use penstock_engine::serve::{Answer, Engine, EngineError, ProductAsk, RecommendAsk, SearchAsk};
use pingora::proxy::Session;
use serde_json::json;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// How long an answer may take before it is given up: the engine keeps its own deadline, of which
/// this is a multiple. It only passes when the engine is stuck.
const PATIENCE: u32 = 10;
/// Writing events waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Answers a request to one of our endpoints. A panic ends this request and nothing else.
pub async fn answer(
    app: &App,
    session: &mut Session,
    ctx: &mut Context,
    route: Route,
    query: &[u8],
) -> Result<Reply, Problem> {
    guarded(dispatch(app, session, ctx, route, query)).await
}

async fn guarded(answer: impl Future<Output = Result<Reply, Problem>>) -> Result<Reply, Problem> {
    // What the answer was made from is not used again but for the record, which is never half
    // written: stages are added whole.
    let bug = |_| Err(Problem::new(Kind::Internal, "this is a bug; the trace id helps to find it"));
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(bug)
}

async fn dispatch<'a>(
    app: &'a App,
    session: &mut Session,
    ctx: &mut Context,
    route: Route,
    query: &[u8],
) -> Result<Reply, Problem> {
    let max_chars = ctx.policy.query.max_chars;
    let patience = ctx.policy.resilience.deadlines.request * PATIENCE;
    let policy = ctx.policy.clone();
    match route {
        Route::Search => {
            let ask = params::search(query, max_chars)?;
            let search = |engine: &'a Engine, most| {
                engine.search(policy.clone(), SearchAsk { most, ..ask.clone() })
            };
            let answer = ranked(app, ctx, patience, search).await?;
            Ok(list(ctx, &answer))
        }
        Route::Explain => {
            let (ask, product_id) = params::explain(query, max_chars)?;
            let step = app.ladder.enter(app, ctx, false)?;
            let ask = SearchAsk { most: step.most().clone(), ..ask };
            let mut explanation =
                engine(app, ctx, patience, |engine| engine.explain(policy, ask, product_id))
                    .await?;
            let waited = explanation["trace"]["waited_micros"].as_u64();
            step.answered(app, &ctx.policy, waited.unwrap_or_default());
            explanation["request"] = json!(ctx.decision);
            Ok(Reply::fleeting(200, &explanation))
        }
        Route::Recommend { user_id } => {
            let ask = params::recommend(query, user_id)?;
            let recommend = |engine: &'a Engine, most| {
                engine.recommend(policy.clone(), RecommendAsk { most, ..ask.clone() })
            };
            let answer = ranked(app, ctx, patience, recommend).await?;
            Ok(list(ctx, &answer))
        }
        Route::Similar { product_id } => {
            let ask = params::products(query, Some(product_id))?;
            let similar = |engine: &'a Engine, most| {
                engine.similar(policy.clone(), ProductAsk { most, ..ask.clone() })
            };
            let answer = ranked(app, ctx, patience, similar).await?;
            Ok(list(ctx, &answer))
        }
        Route::Popular => {
            let ask = params::products(query, None)?;
            let popular = |engine: &'a Engine, most| {
                engine.popular(policy.clone(), ProductAsk { most, ..ask.clone() })
            };
            let answer = ranked(app, ctx, patience, popular).await?;
            Ok(list(ctx, &answer))
        }
        Route::Product { product_id } => {
            let product =
                engine(app, ctx, patience, |engine| engine.product(policy, product_id)).await?;
            Ok(Reply::json(200, &product))
        }
        Route::Events => {
            let events = events::read(app, session).await?;
            let ids: Vec<String> = events.iter().map(|event| event.event_id.clone()).collect();
            let new = engine(app, ctx, DISK_PATIENCE, |engine| engine.record(events)).await?;
            Ok(events::accepted(app, ids, &new))
        }
        Route::Health => app
            .can_serve()
            .map(|()| Reply::fleeting(200, &json!({"status": "ok"})))
            .map_err(Problem::from),
        Route::Options { allow } => Ok(Reply::options(allow)),
        Route::Upstream => Err(Problem::new(
            Kind::NotFound,
            "no endpoint has this path, and no application is configured behind this proxy",
        )),
    }
}

fn list(ctx: &mut Context, answer: &Answer) -> Reply {
    ctx.decision.answered(answer);
    Reply::json(200, &answer.items)
}

/// Has the engine answer, on the rung of the ladder that is the request's. Where it has no thread for that, or does
/// not come back, it is asked for what is popular, which needs none.
async fn ranked<'a, F>(
    app: &'a App,
    ctx: &mut Context,
    patience: Duration,
    ask: impl Fn(&'a Engine, AtMost) -> F,
) -> Result<Answer, Problem>
where
    F: Future<Output = Result<Answer, EngineError>>,
{
    let step = app.ladder.enter(app, ctx, false)?;
    let most = step.most().clone();
    match engine(app, ctx, patience, |engine| ask(engine, most)).await {
        Ok(answer) => {
            step.answered(app, &ctx.policy, answer.trace.waited_micros);
            Ok(answer)
        }
        Err(problem) if matches!(problem.kind, Kind::Overloaded | Kind::EngineLate) => {
            drop(step);
            let most = Ladder::gave_up(app, ctx);
            engine(app, ctx, patience, |engine| ask(engine, most)).await
        }
        Err(problem) => Err(problem),
    }
}

/// Waits for the engine, at most `patience`.
async fn engine<'a, T, F>(
    app: &'a App,
    ctx: &mut Context,
    patience: Duration,
    ask: impl FnOnce(&'a Engine) -> F,
) -> Result<T, Problem>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let began = app.clock.now();
    let answer = tokio::time::timeout(patience, ask(app.engine.get()?)).await;
    let took = app.clock.now() - began;
    ctx.decision.stage("engine", took);
    match answer {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            tracing::error!(micros = micros(took), "the engine did not come back");
            Err(Problem::new(Kind::EngineLate, "the ranking engine did not answer in time")
                .retry_after(Duration::from_secs(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_of_this_request() {
        let broken = guarded(async { panic!("on purpose") }).await;
        assert_eq!(broken.unwrap_err().kind, Kind::Internal);
        assert!(guarded(async { Ok(Reply::options("GET")) }).await.is_ok());
    }
}
