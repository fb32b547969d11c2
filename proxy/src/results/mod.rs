//! Our own endpoints: each takes a route's part of the request and makes a reply or a problem.

mod ask;
mod body;
mod compute;
mod events;
mod job;
mod ladder;
mod popular_queries;
mod remembered;
mod served;
pub mod warm;
mod wishes;

pub use body::Body;
pub use ladder::{Ladder, Step};
pub use remembered::{Results, Warmed};
use served::Fresh;
pub use served::Served;
pub use warm::{Warmer, Warming};

use crate::app::App;
use crate::context::Context;
use crate::decision::micros;
use crate::identity::keys::Keyed;
use crate::params;
use crate::respond::{Kind, Problem, Reply};
use crate::route::Route;
use ask::Ask;
use futures::FutureExt;
use penstock_engine::serve::{Engine, EngineError, SearchAsk};
use penstock_engine::trace;
use pingora::proxy::Session;
use serde_json::json;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use wishes::Wishes;

/// How long an answer may take before it is given up: the engine keeps its own deadline, of which
/// this is a multiple. It only passes when the engine is stuck.
const PATIENCE: u32 = 10;
/// Writing events waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Answers a request to one of our endpoints. A panic ends this request and nothing else.
pub async fn answer(
    app: &Arc<App>,
    session: &mut Session,
    ctx: &mut Context,
    route: Route,
    query: &[u8],
) -> Result<Reply, Problem> {
    let id = ctx.decision.trace.trace_id.bytes();
    trace::within(Some(id), guarded(dispatch(app, session, ctx, route, query))).await
}

async fn guarded(answer: impl Future<Output = Result<Reply, Problem>>) -> Result<Reply, Problem> {
    // What the answer was made from is not used again but for the record, which is never half
    // written: stages are added whole.
    let bug = |_| Err(Problem::new(Kind::Internal, "this is a bug; the trace id helps to find it"));
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(bug)
}

async fn dispatch(
    app: &Arc<App>,
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
            let ask = Ask::Search(params::search(query, max_chars)?);
            list(app, session, ctx, ask, patience).await
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
            ctx.decision.mode = serde_json::from_value(explanation["mode"].clone()).ok();
            explanation["request"] = json!(ctx.decision);
            Ok(Reply::fleeting(200, &explanation))
        }
        Route::Recommend { user_id } => {
            let ask = Ask::Recommend(params::recommend(query, user_id)?);
            list(app, session, ctx, ask, patience).await
        }
        Route::Similar { product_id } => {
            let ask = Ask::Similar(params::products(query, Some(product_id))?);
            list(app, session, ctx, ask, patience).await
        }
        Route::Popular => {
            let ask = Ask::Popular(params::products(query, None)?);
            list(app, session, ctx, ask, patience).await
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

/// A list of products: remembered, or made.
async fn list(
    app: &Arc<App>,
    session: &Session,
    ctx: &mut Context,
    ask: Ask,
    patience: Duration,
) -> Result<Reply, Problem> {
    let wishes = Wishes::read(&session.req_header().headers);
    let may_bypass = ctx.decision.client.key.as_ref().is_some_and(Keyed::may_bypass_cache);
    let fresh = match may_bypass {
        true if wishes.unkept => Fresh::Unkept,
        true if wishes.anew => Fresh::Anew,
        _ => Fresh::Whatever,
    };
    let began = app.clock.now();
    let served = remembered::serve(app, ctx, ask, fresh, patience).await;
    // What the engine did is among the stages by itself.
    let stage =
        if matches!(&served, Ok(served) if served.trace.is_none()) { "results" } else { "engine" };
    ctx.decision.stage(stage, app.clock.now() - began);
    let served = served?;
    ctx.decision.answered(&served);
    if wishes.has(&served.body.etag) {
        return Ok(Reply::not_modified(served.body.etag));
    }
    Ok(Reply::remembered(served.body.bytes, served.body.etag))
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
    let answer = tokio::time::timeout(patience, Box::pin(ask(app.engine.get()?))).await;
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
