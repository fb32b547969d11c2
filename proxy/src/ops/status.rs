//! `/status`: what runs, in one document.

use crate::admission::Shared;
use crate::app::App;
use penstock_engine::resilience::breaker::Trip;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The status page's content.
pub(super) fn of(app: &App) -> Value {
    let engine = match app.engine.get() {
        Ok(engine) => json!(engine.status()),
        Err(why) => json!({ "ready": false, "notes": [why.to_string()] }),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": app.settings.instance,
        "pid": std::process::id(),
        "uptime_seconds": (app.clock.now() - app.started).as_secs(),
        "draining": app.drain.is_draining(),
        "connections": app.drain.connections(),
        "listen": app.listening.get(),
        "data_dir": &app.settings.data_dir,
        "policy_dir": &app.settings.policy_dir,
        "policy": app.policies.status(),
        "limits": limits(app),
        "load": app.ladder.status(app),
        "redis": app.link.as_ref().map(|link| redis(&link.status())),
        "caches": caches(app),
        "database": app.engine.get().ok().and_then(|engine| engine.database()),
        "keys": app.keys.status(),
        "engine": engine,
        "upstream": app.upstream.status(),
    })
}

/// Sets the gauges that are only looked at.
pub(super) fn refresh(app: &App) {
    let metrics = &app.metrics;
    metrics.connections.set(app.drain.connections() as i64);
    app.upstream.status();
    let policy = app.policies.status();
    metrics.policy_info.reset();
    metrics.policy_info.with_label_values(&[&policy.version]).set(1);
    metrics.policy_age.set(policy.age_seconds as f64);
    metrics.policy_rejected.set(i64::try_from(policy.reloads.rejected).unwrap_or(i64::MAX));
    metrics.limits.refresh(app);
    metrics.layers.refresh(app);
    metrics.load.refresh(app);
    metrics.database.refresh(app);
    metrics.pages.refresh(app);
    let keys = app.keys.status();
    metrics.keys.set(keys.keys as i64);
    metrics.keys_problems.set(keys.problems as i64);
    metrics.keys_unreadable.set(i64::from(keys.error.is_some()));
    let now = app.clock.unix_seconds();
    let [allowed, denied] = app.lists.load().in_force(now);
    metrics.whitelist_size.set(allowed as i64);
    metrics.blacklist_size.set(denied as i64);
    let age = app.shared_entries.age(app.started, app.clock.now());
    metrics.lists_age.set(app.link.as_ref().map_or(0.0, |_| age.as_secs_f64()));
    let Ok(engine) = app.engine.get() else {
        metrics.engine_ready.set(0);
        return;
    };
    let status = engine.status();
    metrics.engine_ready.set(i64::from(status.ready));
    metrics.engine_products.set(status.products as i64);
    metrics.engine_catalog_revision.set(status.catalog_revision as i64);
    metrics.engine_waiting.set(status.waiting as i64);
    metrics.engine_index_info.reset();
    metrics.engine_index_info.with_label_values(&[&status.index_version]).set(1);
}

/// Where limits are counted, and for how many.
pub(super) fn limits(app: &App) -> Value {
    let shared = app.admission.shared();
    json!({
        "counted": match shared {
            None => "here",
            Some(shared) if shared.is_alone() => "here, with a share: Redis is silent, or not told yet",
            Some(_) => "in Redis",
        },
        "clients": app.admission.clients(),
        "flagged": app.admission.flagged_count(),
        "instances": shared.map_or(1, Shared::instances),
        "with_own_share": shared.is_some_and(Shared::is_alone),
    })
}

/// What is remembered, and whether the fleet's changes are heard.
pub(super) fn caches(app: &App) -> Value {
    let policy = &app.policies.current().cache;
    let layers: BTreeMap<_, _> = app
        .caches
        .held()
        .into_iter()
        .chain(app.results.held())
        .map(|(kind, bytes, entries)| {
            let layer = kind.layer(policy);
            let on = policy.enabled && layer.enabled;
            let held = json!({
                "enabled": on, "bytes": bytes, "most_bytes": layer.memory, "entries": entries,
            });
            (kind.name(), held)
        })
        .collect();
    json!({ "layers": layers, "changes": app.caches.log.status(), "warming": app.warming.round() })
}

fn redis(status: &penstock_engine::redis::Status) -> Value {
    let breaker = &status.breaker;
    json!({
        "kind": status.kind,
        "address": status.address,
        "server": status.server,
        "connected": status.server.is_some(),
        "connects": status.connects,
        "calls": status.calls.iter().copied().collect::<BTreeMap<_, _>>(),
        "last_error": status.last_error,
        "breaker": {
            "state": breaker.state.name(),
            "why": breaker.trip.map(Trip::text),
            "forced": breaker.forced.is_some(),
            "lasted_seconds": breaker.lasted.as_secs(),
            "retry_after_seconds": breaker.retry_after.map(|wait| wait.as_secs_f64()),
        },
    })
}
