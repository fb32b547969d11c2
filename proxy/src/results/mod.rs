//! Our own endpoints: each takes a route's part of the request and makes a reply or a problem.

mod events;

use crate::app::App;
use crate::context::Context;
use crate::decision::micros;
use crate::params;
use crate::respond::{Kind, Problem, Reply};
use crate::route::Route;
use futures::FutureExt;
use penstock_engine::serve::{Answer, EngineError};
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

async fn dispatch(
    app: &App,
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
            let answer = engine(app, ctx, patience, |engine| engine.search(policy, ask)).await?;
            Ok(list(ctx, &answer))
        }
        Route::Explain => {
            let (ask, product_id) = params::explain(query, max_chars)?;
            let mut explanation =
                engine(app, ctx, patience, |engine| engine.explain(policy, ask, product_id))
                    .await?;
            explanation["request"] = json!(ctx.decision);
            Ok(Reply::fleeting(200, &explanation))
        }
        Route::Recommend { user_id } => {
            let ask = params::recommend(query, user_id)?;
            let answer = engine(app, ctx, patience, |engine| engine.recommend(policy, ask)).await?;
            Ok(list(ctx, &answer))
        }
        Route::Similar { product_id } => {
            let ask = params::products(query, Some(product_id))?;
            let answer = engine(app, ctx, patience, |engine| engine.similar(policy, ask)).await?;
            Ok(list(ctx, &answer))
        }
        Route::Popular => {
            let ask = params::products(query, None)?;
            let answer = engine(app, ctx, patience, |engine| engine.popular(policy, ask)).await?;
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

/// Waits for the engine, at most `patience`.
async fn engine<'a, T, F>(
    app: &'a App,
    ctx: &mut Context,
    patience: Duration,
    ask: impl FnOnce(&'a penstock_engine::serve::Engine) -> F,
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
