//! What an event looks like: from JSON to [`Event`], with every fault named.

use crate::params::quoted;
use crate::respond::{ItemError, Kind, Problem};
use penstock_engine::catalog::{Event, EventKind};
use serde_json::{Map, Value};

/// Most events in one request.
const MAX_EVENTS: usize = 1_000;
/// Longest `user_id` and `product_id`, bytes.
const MAX_ID_BYTES: usize = 256;
/// Longest `event_id`, bytes.
const MAX_EVENT_ID_BYTES: usize = 128;
/// Longest `source`, bytes.
const MAX_SOURCE_BYTES: usize = 64;
/// Faults that are listed; a batch that is wrong throughout is wrong for the same reason.
const MAX_ERRORS: usize = 100;
/// How far a client's clock may be ahead of ours.
const AHEAD_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// One event or an array of them. Events without a time happened at `now` (microseconds since
/// 1970); those without an id get one.
pub(super) fn parse(body: &[u8], now: i64) -> Result<Vec<Event>, Problem> {
    let content: Value = serde_json::from_slice(body).map_err(|error| {
        let detail = if body.trim_ascii().is_empty() {
            "the body is empty; send an event or an array of events".to_owned()
        } else {
            // serde_json ends its message with "at line 1 column 2".
            format!("the body is not valid JSON: {error}")
        };
        Problem::new(Kind::BadJson, detail)
    })?;
    let items = match content {
        Value::Array(items) => items,
        one => vec![one],
    };
    if items.is_empty() {
        return Err(Problem::new(
            Kind::InvalidEvents,
            "the array is empty; send at least one event",
        ));
    }
    if items.len() > MAX_EVENTS {
        let detail = format!("the array has {} events; it may have {MAX_EVENTS}", items.len());
        return Err(Problem::new(Kind::BodyTooLarge, detail));
    }
    let count = items.len();
    let mut faults = Faults::default();
    let mut events = Vec::with_capacity(count);
    for (index, item) in items.iter().enumerate() {
        let before = faults.count;
        let event = event(item, now, &mut |field, message| {
            faults.add(index, field, message);
        });
        if faults.count == before {
            events.extend(event);
        } else {
            faults.items += 1;
        }
    }
    if faults.count == 0 {
        return Ok(events);
    }
    let listed = if faults.count > MAX_ERRORS {
        format!(", the first {MAX_ERRORS} faults are listed")
    } else {
        String::new()
    };
    let detail =
        format!("{} of {count} events are not valid{listed}; none was stored", faults.items);
    let mut problem = Problem::new(Kind::InvalidEvents, detail);
    problem.errors = faults.listed;
    Err(problem)
}

#[derive(Default)]
struct Faults {
    count: usize,
    items: usize,
    listed: Vec<ItemError>,
}

impl Faults {
    fn add(&mut self, index: usize, field: &'static str, message: String) {
        self.count += 1;
        if self.listed.len() < MAX_ERRORS {
            self.listed.push(ItemError { index, field, message });
        }
    }
}

type Fault<'f> = dyn FnMut(&'static str, String) + 'f;

/// The event, or faults and anything.
fn event(item: &Value, now: i64, fault: &mut Fault<'_>) -> Option<Event> {
    let Value::Object(fields) = item else {
        fault("", format!("an event is a JSON object, not {}", kind_of(item)));
        return None;
    };
    let user_id = text(fields, "user_id", 1, MAX_ID_BYTES, fault);
    let product_id = text(fields, "product_id", 1, MAX_ID_BYTES, fault);
    let kind = event_type(fields, fault);
    let at_micros = match fields.get("timestamp") {
        None | Some(Value::Null) => Some(now),
        Some(value) => timestamp(value, now).map_err(|why| fault("timestamp", why)).ok(),
    };
    let source = optional(fields, "source", 0, MAX_SOURCE_BYTES, fault).unwrap_or_default();
    let event_id = optional(fields, "event_id", 1, MAX_EVENT_ID_BYTES, fault)
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    Some(Event {
        event_id,
        user_id: user_id?,
        product_id: product_id?,
        kind: kind?,
        at_micros: at_micros?,
        source,
    })
}

fn optional(
    fields: &Map<String, Value>,
    name: &'static str,
    min: usize,
    max: usize,
    fault: &mut Fault<'_>,
) -> Option<String> {
    match fields.get(name) {
        None | Some(Value::Null) => None,
        Some(_) => text(fields, name, min, max, fault),
    }
}

fn text(
    fields: &Map<String, Value>,
    name: &'static str,
    min: usize,
    max: usize,
    fault: &mut Fault<'_>,
) -> Option<String> {
    let why = match fields.get(name) {
        None => "is missing".to_owned(),
        Some(Value::String(text)) if text.trim().is_empty() && min > 0 => "is empty".to_owned(),
        Some(Value::String(text)) if text.len() > max => {
            format!("has {} bytes; it may have {max}", text.len())
        }
        // No database takes it, and what is acknowledged must be one that every store takes.
        Some(Value::String(text)) if text.contains('\0') => "has a zero character".to_owned(),
        Some(Value::String(text)) => return Some(text.clone()),
        Some(other) => format!("must be a string, not {}", kind_of(other)),
    };
    fault(name, format!("{name} {why}"));
    None
}

fn event_type(fields: &Map<String, Value>, fault: &mut Fault<'_>) -> Option<EventKind> {
    let name = text(fields, "event_type", 1, 64, fault)?;
    let kind = EventKind::from_name(&name);
    if kind.is_none() {
        let why =
            format!("event_type must be view, add_to_cart or purchase, not {}", quoted(&name));
        fault("event_type", why);
    }
    kind
}

/// Microseconds since 1970 from RFC 3339, or from a number of seconds or milliseconds.
fn timestamp(value: &Value, now: i64) -> Result<i64, String> {
    /// Seconds would be the year 5138, milliseconds are 1973.
    const MILLIS_FROM: f64 = 1e11;
    const HOW: &str =
        "write RFC 3339, as in 2024-05-01T12:00:00Z, or seconds or milliseconds since 1970";
    let micros = match value {
        Value::String(text) => {
            use time::format_description::well_known::Rfc3339;
            let moment = time::OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|_| format!("timestamp {} cannot be read; {HOW}", quoted(text)))?;
            (moment.unix_timestamp_nanos() / 1_000) as f64
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if number.abs() >= MILLIS_FROM { number * 1e3 } else { number * 1e6 }
        }
        other => {
            return Err(format!(
                "timestamp must be a string or a number, not {}; {HOW}",
                kind_of(other)
            ));
        }
    };
    if !(0.0..=(now + AHEAD_MICROS) as f64).contains(&micros) {
        return Err(format!("timestamp is before 1970 or more than a day ahead; {HOW}"));
    }
    Ok(micros as i64)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
