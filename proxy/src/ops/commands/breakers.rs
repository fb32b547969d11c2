//! The breakers: how they stand, and holding one open or closed.

use super::{Asked, Said, bad};
use crate::app::App;
use crate::breakers::each;
use http::Method;
use penstock_engine::resilience::Breaker;
use penstock_engine::resilience::breaker::{Forced, Trip};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Has to be there: `null` is a wish like the others.
    #[serde(deserialize_with = "wish")]
    force: Option<Wish>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    Open,
    Closed,
}

fn wish<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Wish>, D::Error> {
    Option::deserialize(from)
}

impl Wish {
    fn forced(self) -> Forced {
        match self {
            Self::Open => Forced::Open,
            Self::Closed => Forced::Closed,
        }
    }
}

/// Answers a command.
pub(super) fn answer(app: &App, asked: &Asked<'_>) -> Said {
    let name = percent_encoding::percent_decode_str(asked.name).decode_utf8_lossy();
    match (asked.method, name.as_ref()) {
        (&Method::GET, "") => {
            let mut all = Vec::new();
            each(app, |breaker| all.push(told(app, breaker)));
            (200, json!(all))
        }
        (_, "") => (405, json!({"error": "this takes GET; force one with POST to its name"})),
        (&Method::GET, name) => of(app, name, |breaker| (200, told(app, breaker))),
        (&Method::POST, name) => match serde_json::from_slice::<Wanted>(asked.body) {
            Ok(Wanted { force }) => of(app, name, |breaker| {
                breaker.force(force.map(Wish::forced));
                (200, told(app, breaker))
            }),
            Err(error) => bad(format!(
                "{error}; send {{\"force\": \"open\"}}, {{\"force\": \"closed\"}} or {{\"force\": null}}"
            )),
        },
        _ => (405, json!({"error": "this takes GET and POST"})),
    }
}

/// Does something to the breaker of this name.
fn of(app: &App, name: &str, act: impl Fn(&Breaker) -> Said) -> Said {
    let mut said = None;
    let mut known = Vec::new();
    each(app, |breaker| {
        if breaker.name() == name {
            said = Some(act(breaker));
        }
        known.push(breaker.name().to_owned());
    });
    said.unwrap_or_else(|| {
        let error = format!("nothing of this name is guarded; there are: {}", known.join(", "));
        (404, json!({"error": error, "known": known}))
    })
}

fn told(app: &App, breaker: &Breaker) -> Value {
    let status = breaker.status(app.clock.now());
    json!({
        "name": status.name,
        "state": status.state.name(),
        "trip": status.trip.map(Trip::text),
        "forced": status.forced.map(|forced| match forced {
            Forced::Open => "open",
            Forced::Closed => "closed",
        }),
        "lasted_seconds": status.lasted.as_secs(),
        "retry_after_seconds": status.retry_after.map(|wait| wait.as_secs_f64()),
        "consecutive_failures": status.consecutive_failures,
        "last_minute": {
            "calls": status.counts.calls,
            "failures": status.counts.failures,
            "slow": status.counts.slow,
        },
        "opened": status.opened,
    })
}
