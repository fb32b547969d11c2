//! Whom to let pass, whom to keep out, whom to pardon.

use super::{Asked, Said, bad, parameter};
use crate::admission::Who;
use crate::app::App;
use crate::fleet::FlaggedFollower;
use http::Method;
use penstock_config::lists::{Change, ListError, change};
use penstock_config::policy::{Entry, List, Target};
use penstock_config::publish::PublishError;
use penstock_config::units;
use penstock_engine::redis::{SharedLists, SharedListsError};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEntry {
    target: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pardon {
    client: String,
}

/// Answers a command.
pub(super) async fn answer(app: &App, asked: &Asked<'_>) -> Said {
    let Asked { method, name, query, body } = *asked;
    match (method, name) {
        (&Method::GET, "status") => status(app, query),
        (&Method::GET, "flagged") => (200, json!(flagged(app))),
        (&Method::POST, "pardon") => pardon(app, body).await,
        (method, "whitelist") => list(app, List::Allow, method, query, body).await,
        (method, "blacklist") => list(app, List::Deny, method, query, body).await,
        (_, "status" | "flagged") => (405, json!({"error": "this takes GET"})),
        (_, "pardon") => (405, json!({"error": "this takes POST"})),
        _ => (
            404,
            json!({"error": "there are status, flagged, pardon, whitelist and blacklist below /admin/rate-limit"}),
        ),
    }
}

/// How it stands: with limits altogether, or with one client.
fn status(app: &App, query: &str) -> Said {
    let policy = app.policies.current();
    if let Some(client) = parameter(query, "client") {
        return match client.parse::<Who>() {
            Ok(who) => (200, of_client(app, who)),
            Err(error) => bad(error.to_string()),
        };
    }
    let [allowed, denied] = app.lists.load().in_force(app.clock.unix_seconds());
    let rules: Vec<Value> = policy
        .limits
        .rules
        .iter()
        .filter(|rule| rule.enabled)
        .map(|rule| {
            json!({
                "rule": &*rule.name,
                "per_minute": rule.limit.per_minute,
                "burst": rule.limit.burst,
                "shadow": rule.shadow,
                "over_limit": rule.over_limit.name(),
            })
        })
        .collect();
    let said = json!({
        "policy": policy.version,
        "limits": crate::ops::status::limits(app),
        "whitelist": allowed,
        "blacklist": denied,
        "rules": rules,
    });
    (200, said)
}

/// What this instance knows of a client.
fn of_client(app: &App, who: Who) -> Value {
    let policy = app.policies.current();
    let used: Vec<Value> = app
        .admission
        .used(&policy.limits, who, app.clock.now())
        .into_iter()
        .map(|(rule, used, limit)| json!({"rule": &*rule, "used": used, "limit": limit}))
        .collect();
    let flagged: Vec<_> = flagged(app).into_iter().filter(|row| row.client == who).collect();
    json!({"client": who, "used_here": used, "flagged": flagged})
}

fn flagged(app: &App) -> Vec<crate::admission::abuse::Flagged> {
    let policy = app.policies.current();
    app.admission.flagged(&policy.limits.abuse, app.clock.now(), app.clock.unix_micros())
}

async fn pardon(app: &App, body: &[u8]) -> Said {
    let wanted: Pardon = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(error) => return bad(format!("{error}; send {{\"client\": \"203.0.113.7\"}}")),
    };
    let who: Who = match wanted.client.parse() {
        Ok(who) => who,
        Err(error) => return bad(format!("client: {error}")),
    };
    let pardoned = FlaggedFollower::pardon(app, who).await;
    if pardoned.known {
        tracing::info!(
            client = %who, everywhere = pardoned.everywhere, "pardoned by an operator"
        );
        (200, json!({"pardoned": who, "everywhere": pardoned.everywhere}))
    } else {
        (404, json!({"error": format!("{who} is not on the list of those found out")}))
    }
}

async fn list(app: &App, list: List, method: &Method, query: &str, body: &[u8]) -> Said {
    match *method {
        Method::GET => {
            let policy = app.policies.current();
            let shared = app.shared_entries.get();
            let all = policy.access.entries.iter().chain(shared.iter());
            (200, json!(all.filter(|entry| entry.list == list).collect::<Vec<_>>()))
        }
        Method::POST => {
            let new: NewEntry = match serde_json::from_slice(body) {
                Ok(new) => new,
                Err(error) => {
                    return bad(format!(
                        "{error}; send {{\"target\": \"203.0.113.0/24\", \"reason\": \"…\", \"expires\": \"1h\"}}"
                    ));
                }
            };
            let target = match Target::parse(&new.target) {
                Ok(target) => target,
                Err(why) => return bad(format!("target: {why}")),
            };
            let expires = match new
                .expires
                .map(|text| units::until(&text, app.clock.unix_seconds()))
                .transpose()
            {
                Ok(expires) => expires,
                Err(why) => return bad(format!("expires: {why}")),
            };
            let entry = Entry { list, target, reason: new.reason, expires };
            let said = json!(entry);
            let status = make(app, Change::Put(entry), &new.by).await;
            if status.0 == 200 { (201, said) } else { status }
        }
        Method::DELETE => {
            let Some(target) = parameter(query, "target") else {
                return bad("say whom: ?target=203.0.113.0/24");
            };
            match Target::parse(&target) {
                Ok(target) if !is_on(app, list, target) => {
                    (404, json!({"error": format!("this list has no {target}")}))
                }
                Ok(target) => {
                    let by = parameter(query, "by").unwrap_or_default();
                    make(app, Change::Remove(target), &by).await
                }
                Err(why) => bad(format!("target: {why}")),
            }
        }
        _ => (405, json!({"error": "this takes GET, POST and DELETE"})),
    }
}

fn is_on(app: &App, list: List, target: Target) -> bool {
    let policy = app.policies.current();
    let shared = app.shared_entries.get();
    let mut all = policy.access.entries.iter().chain(shared.iter());
    all.any(|entry| entry.list == list && entry.target == target)
}

/// Changes the lists: those in Redis where there is one, else those of the policy folder.
async fn make(app: &App, wanted: Change, by: &str) -> Said {
    let policy = app.policies.current();
    let by = if by.is_empty() { "operations listener" } else { by };
    tracing::info!(change = ?wanted, by, "the lists are changed by an operator");
    if let Some(link) = app.link.clone() {
        return match SharedLists::new(link).change(&policy.resilience, &wanted).await {
            Ok(_) => (200, json!({"changed": "in Redis"})),
            Err(error @ SharedListsError::Absent(_)) => (404, json!({"error": error.to_string()})),
            Err(error) => (503, json!({"error": error.to_string()})),
        };
    }
    let dir = app.settings.policy_dir.clone();
    let clock = app.clock.clone();
    let by = by.to_owned();
    let why = wanted.to_string();
    let changed = tokio::task::spawn_blocking(move || change(&dir, &wanted, &by, &why, &*clock));
    match changed.await {
        Ok(Ok(_)) => (200, json!({"changed": "in the policy folder"})),
        Ok(Err(error @ ListError::Absent(_))) => (404, json!({"error": error.to_string()})),
        Ok(Err(error @ (ListError::Broken(_) | ListError::Publish(PublishError::Invalid(_))))) => {
            (409, json!({"error": error.to_string()}))
        }
        Ok(Err(error)) => (503, json!({"error": error.to_string()})),
        Err(error) => (500, json!({"error": error.to_string()})),
    }
}
