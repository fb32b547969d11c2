//! A request at the gate: abuse and limits, after keys and lists (`access`) had their say.

use super::abuse::{self, Penalty};
use super::{Asked, Outcome, Verdict, Who, class_of};
use crate::app::App;
use crate::context::Context;
use crate::decision::PAUSE;
use crate::identity::keys::Keyed;
use crate::params::{self, Wanted};
use crate::respond::{Kind, Problem, whole_seconds};
use crate::route::{Endpoint, Route};
use http::Method;
use penstock_config::policy::{Class, Policy, Scope};
use penstock_engine::query::normalise;
use penstock_engine::resilience::Mode;
use std::time::Duration;

/// A request's line, as far as the gate looks at it.
pub struct Line<'r> {
    /// Its method.
    pub method: Method,
    /// Its path as sent, without authority and query.
    pub path: &'r [u8],
    /// Its query as sent.
    pub query: &'r [u8],
}

/// Counts the request against its client; the refusal, if there is one.
pub async fn admit(app: &App, ctx: &mut Context, line: Line<'_>, route: &Route) -> Option<Problem> {
    if matches!(route, Route::Options { .. }) {
        return None;
    }
    let endpoint = ctx.decision.route;
    let class = class_of(endpoint)?;
    let began = app.clock.now();
    let policy = ctx.policy.clone();
    // What the application is asked is its own business.
    let wanted = match class {
        Class::Search | Class::Recommend => params::wanted(line.query),
        Class::Events | Class::Passthrough => Wanted::default(),
    };
    let client = ctx.decision.client.clone();
    let who = Who::from(&client);
    let own_limits = client.key.as_ref().map(Keyed::limits).unwrap_or_default();
    if let Some(problem) = abused(app, ctx, &policy, who, route, &wanted) {
        ctx.decision.stage("admission", app.clock.now() - began);
        return Some(problem);
    }
    let class = if client.refused_key.is_some() { guessed_as(&policy, class) } else { class };
    let asked = Asked {
        limits: &policy.limits,
        class,
        method: line.method.as_str(),
        path: policy.limits.path_of(class, line.path),
        who,
        own_limits,
        cost: cost(&policy, endpoint, &wanted),
    };
    let verdicts = app.admission.judge(&asked, &policy.resilience, began).await;
    let took = app.clock.now() - began;
    app.metrics.limits.judged(endpoint, &verdicts, took);
    // The rule that lets it wait longest: who comes back sooner is refused again.
    let refusal =
        verdicts.iter().filter_map(Verdict::refusal).max_by_key(|problem| problem.retry_after);
    if let Some(refused) = verdicts.iter().find(|verdict| verdict.refusal().is_some()) {
        app.admission.violations.report(who, &refused.rule, began);
    }
    if verdicts.iter().any(|verdict| verdict.outcome == Outcome::Degraded) {
        // From a cache, or in the cheapest mode.
        ctx.cap = Mode::Stale;
    }
    ctx.decision.verdicts = verdicts;
    ctx.decision.stage("admission", took);
    refusal
}

/// Waits where a client asks on and on though it is refused.
pub async fn pause(app: &App, ctx: &mut Context) {
    let (limits, who) = (&ctx.policy.limits, Who::from(&ctx.decision.client));
    if let Some(paused) = app.admission.pause(limits, who, app.clock.now()) {
        app.metrics.limits.paused();
        tokio::time::sleep(paused.pause).await;
        ctx.decision.stage(PAUSE, paused.pause);
    }
}

/// What a request with a key that is not good is counted as: guessing must not be free where requests of
/// this class are.
fn guessed_as(policy: &Policy, class: Class) -> Class {
    let limited = |class| policy.limits.about(Scope::Address, class, "", "").any(|r| r.enabled);
    if limited(class) { class } else { Class::Search }
}

/// What a request costs under a rule that weighs.
fn cost(policy: &Policy, endpoint: Endpoint, wanted: &Wanted) -> u32 {
    let semantic = match endpoint {
        Endpoint::Search | Endpoint::Explain | Endpoint::Similar => policy.query.semantic.enabled,
        _ => false,
    };
    policy.limits.prices.of(wanted.results, semantic)
}

/// Looks for abuse; the refusal of a client that was found out.
fn abused(
    app: &App,
    ctx: &mut Context,
    policy: &Policy,
    who: Who,
    route: &Route,
    wanted: &Wanted,
) -> Option<Problem> {
    let query = match route {
        Route::Search | Route::Explain => wanted.query.as_deref().map(normalise),
        _ => None,
    };
    let asked = match (route, &query) {
        (_, Some(query)) => abuse::Asked::Query(query),
        (Route::Product { product_id } | Route::Similar { product_id }, _) => {
            abuse::Asked::Product(product_id)
        }
        _ => abuse::Asked::Other,
    };
    let penalty = app.admission.look(&policy.limits.abuse, who, asked, app.clock.now())?;
    let Penalty { pattern, offences, shadow, .. } = penalty;
    if let Some(evidence) = &penalty.found {
        app.metrics.limits.found(pattern);
        tracing::warn!(
            client = %who, pattern = pattern.name(), %evidence, offences, shadow,
            "abuse detected"
        );
    }
    let wait = whole_seconds(penalty.retry_after).max(1);
    let told = format!("{}; ask again in {wait} s", penalty.reason());
    app.metrics.limits.penalised(ctx.decision.route, shadow);
    ctx.decision.penalty = Some(penalty);
    (!shadow)
        .then(|| Problem::new(Kind::TooManyRequests, told).retry_after(Duration::from_secs(wait)))
}
