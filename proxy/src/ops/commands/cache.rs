//! Commands about what is remembered: forget it, make it before it is asked for, look at it.

use super::{Asked, Said, bad};
use crate::app::App;
use http::Method;
use penstock_config::policy::PathPattern;
use penstock_engine::cache::{CacheKind, Change, Pattern, Reason, What};
use serde_json::json;

/// Queries asked most that are shown.
const SHOWN: usize = 50;
/// What may be behind `invalidate`.
const PARAMETERS: [&str; 4] = ["cache", "pattern", "path", "host"];
/// The cache of the application's pages, which is not one of the layers.
const PAGES: &str = "pages";
/// Longest id, bytes; the engine's ids are no longer.
const MAX_ID_BYTES: usize = 256;

/// `cache/…`
pub(super) async fn answer(app: &App, asked: &Asked<'_>) -> Said {
    match (asked.method, asked.name) {
        (&Method::GET, "status") => (200, crate::ops::status::caches(app)),
        (&Method::GET, "queries") => (200, json!(app.warming.top(SHOWN))),
        (&Method::POST, "warm") => {
            if app.can_serve().is_err() {
                return (503, json!({"error": "there is nothing to answer from yet"}));
            }
            if !app.policies.current().cache.enabled {
                return (
                    409,
                    json!({"error": "cache.toml has enabled = false: nothing is remembered"}),
                );
            }
            let runs = app.warming.round().is_some_and(|round| round.running);
            app.warming.wake();
            let when = if runs { "begins after the round that goes on" } else { "begins now" };
            (202, json!({"warming": format!("{when}; see GET /admin/cache/status")}))
        }
        (&Method::POST, name) if name == "invalidate" || name.starts_with("invalidate/") => {
            if let Some(unknown) = stranger(asked.query) {
                return bad(format!(
                    "{unknown:?} is no parameter, or given twice; there are {}",
                    PARAMETERS.join(", ")
                ));
            }
            if super::parameter(asked.query, "cache").as_deref() == Some(PAGES) {
                return purge(app, asked);
            }
            match change(asked) {
                Ok(change) => invalidate(app, change).await,
                Err(why) => bad(why),
            }
        }
        (_, "status" | "queries") => (405, json!({"error": "this takes GET"})),
        (_, "warm") => (405, json!({"error": "this takes POST"})),
        (_, name) if name.starts_with("invalidate") => (405, json!({"error": "this takes POST"})),
        _ => (
            404,
            json!({"error": "there are status, queries, warm, invalidate?pattern=, invalidate/product/{id}, invalidate/user/{id} and invalidate/all below /admin/cache"}),
        ),
    }
}

/// `ranking/…`
pub(super) async fn ranking(app: &App, asked: &Asked<'_>) -> Said {
    match (asked.method, asked.name) {
        (&Method::POST, "refresh") => {
            let policy = app.policies.current();
            let change = Change::all(Some(CacheKind::Ranking), Reason::RankingWeights);
            let said = invalidate(app, change).await;
            app.caches.remember_weights(&policy);
            said
        }
        (_, "refresh") => (405, json!({"error": "this takes POST"})),
        _ => (404, json!({"error": "there is refresh below /admin/ranking"})),
    }
}

/// A mistyped `cache=` must not forget everything.
fn stranger(query: &str) -> Option<&str> {
    let names = query.split('&').filter(|pair| !pair.is_empty());
    let mut names = names.map(|pair| pair.split('=').next().unwrap_or_default());
    let mut seen = Vec::new();
    names.find(|name| {
        let again = seen.contains(name);
        seen.push(*name);
        again || !PARAMETERS.contains(name)
    })
}

/// Pages of the application: all of them, or those at a path, of one host or of all.
fn purge(app: &App, asked: &Asked<'_>) -> Said {
    let host = super::parameter(asked.query, "host");
    let about = asked.name.trim_start_matches("invalidate").trim_start_matches('/');
    let gone = match (about, super::parameter(asked.query, "path")) {
        ("all", None) if host.is_none() => app.pages.purge_all(),
        ("", Some(path)) => match path.parse::<PathPattern>() {
            Ok(path) => app.pages.purge(host.as_deref(), &path),
            Err(why) => return bad(format!("path: {why}")),
        },
        _ => {
            return bad(
                "pages are named by ?cache=pages&path=/assets/*[&host=…], or /all?cache=pages",
            );
        }
    };
    app.metrics.pages.invalidated("operator");
    tracing::info!(pages = gone, "pages of the application forgotten");
    (200, json!({"invalidated": "here", "pages": gone}))
}

/// What shall not hold any more.
fn change(asked: &Asked<'_>) -> Result<Change, String> {
    let cache = match super::parameter(asked.query, "cache") {
        None => None,
        Some(name) => Some(CacheKind::from_name(&name).ok_or_else(|| {
            let mut known: Vec<_> = CacheKind::ALL.iter().map(|kind| kind.name()).collect();
            known.push(PAGES);
            format!("no cache is called {name:?}; there are {}", known.join(", "))
        })?),
    };
    let reason = Reason::Operator;
    let id = |text: &str| {
        let text = percent_encoding::percent_decode_str(text).decode_utf8();
        let text = text.map_err(|_| "the id is not UTF-8".to_owned())?.into_owned();
        match text.len() {
            0 => Err("the id is empty".to_owned()),
            1..=MAX_ID_BYTES => Ok(vec![text]),
            _ => Err(format!("an id has at most {MAX_ID_BYTES} bytes")),
        }
    };
    let about = asked.name.trim_start_matches("invalidate").trim_start_matches('/');
    let what = match about.split_once('/') {
        Some(("product", text)) => What::Products(id(text)?),
        Some(("user", text)) => What::Users(id(text)?),
        None if about == "all" => What::All,
        None if about.is_empty() => {
            let pattern = super::parameter(asked.query, "pattern")
                .ok_or("say what: ?pattern=search:*, or /product/{id}, /user/{id}, /all")?;
            What::Pattern(Pattern::parse(&pattern)?)
        }
        _ => return Err("there are product/{id}, user/{id} and all behind invalidate".to_owned()),
    };
    if cache.is_some() && matches!(what, What::Products(_) | What::Users(_)) {
        return Err("what a product or a user is in is forgotten in every cache".to_owned());
    }
    Ok(Change { cache, what, reason, revision: 0 })
}

/// In force here when it is answered, and in every instance that Redis reaches.
async fn invalidate(app: &App, change: Change) -> Said {
    let policy = app.policies.current();
    match app.caches.log.tell_now(&policy.resilience, change).await {
        Ok(()) if app.link.is_some() => (200, json!({"invalidated": "in the fleet"})),
        Ok(()) => (200, json!({"invalidated": "here"})),
        Err(trouble) => (
            202,
            json!({
                "invalidated": "here; the fleet hears of it when Redis is there again",
                "trouble": trouble.to_string(),
            }),
        ),
    }
}
