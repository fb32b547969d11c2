//! From a record to an event.

use super::columns::{event_field as field, normal};
use super::product::{id, shown, text};
use super::read::Record;
use super::timestamp::parse_micros;
use crate::catalog::{Event, EventKind};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

const EVENT_ID_BYTES: usize = 128;
const SOURCE_BYTES: usize = 64;
const DAY_MICROS: i64 = 86_400_000_000;
/// 2000-01-01: where events without a time begin.
const UNDATED_FROM_MICROS: i64 = 946_684_800_000_000;

/// What an `event_type` of a file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An event of this kind.
    Kind(EventKind),
    /// An event of this kind when its `value` is at least [`EventRules::min_value`], else no
    /// preference: skipped.
    Rating(EventKind),
    /// Skipped.
    Skip,
}

/// How the types of events in a file are understood.
///
/// By default `view` (click, page_view, …), `add_to_cart` (cart, basket, …) and `purchase` (order,
/// buy, transaction, …) are themselves, a `rating` of 4 or more is a view and one below says
/// nothing, a `review` is a purchase: who reviews has it.
#[derive(Debug, Clone)]
pub struct EventRules {
    types: HashMap<String, Meaning>,
    default: Option<String>,
    /// From which `value` on a rating counts.
    pub min_value: f64,
}

impl Default for EventRules {
    fn default() -> Self {
        use EventKind::{AddToCart, Purchase, View};
        let names: [(Meaning, &[&str]); 4] = [
            (
                Meaning::Kind(View),
                &["view", "click", "page_view", "pageview", "product_view", "detail"],
            ),
            (
                Meaning::Kind(AddToCart),
                &["add_to_cart", "addtocart", "cart", "add", "basket", "add_to_basket"],
            ),
            (
                Meaning::Kind(Purchase),
                &["purchase", "buy", "bought", "order", "sale", "transaction", "review"],
            ),
            (Meaning::Rating(View), &["rating", "rate", "stars"]),
        ];
        let types = names
            .into_iter()
            .flat_map(|(meaning, names)| names.iter().map(move |n| ((*n).to_owned(), meaning)))
            .collect();
        Self { types, default: None, min_value: 4.0 }
    }
}

impl EventRules {
    /// Says what a type means: `view`, `add_to_cart`, `purchase`, `rating` or `skip`. A type that
    /// is a rating stays one: `rating=purchase` makes purchases of the ratings that count. Error: a
    /// sentence.
    pub fn set(&mut self, event_type: &str, meaning: &str) -> Result<(), String> {
        let name = normal(event_type);
        let meaning = match (normal(meaning).as_str(), self.types.get(&name)) {
            ("skip", _) => Meaning::Skip,
            ("rating", _) => Meaning::Rating(EventKind::View),
            (kind, was) => match (EventKind::from_name(kind), was) {
                (Some(kind), Some(Meaning::Rating(_))) => Meaning::Rating(kind),
                (Some(kind), _) => Meaning::Kind(kind),
                (None, _) => {
                    return Err(format!(
                        "`{event_type}={meaning}`: an event can be view, add_to_cart, purchase, \
                         rating or skip"
                    ));
                }
            },
        };
        self.types.insert(name, meaning);
        Ok(())
    }
}

impl EventRules {
    /// Says what rows without a type are: one of the types. Error: a sentence.
    pub fn set_default(&mut self, event_type: &str) -> Result<(), String> {
        let name = normal(event_type);
        if !self.types.contains_key(&name) {
            return Err(format!(
                "`{event_type}` is no type of event; use view, add_to_cart, purchase or rating"
            ));
        }
        self.default = Some(name);
        Ok(())
    }

    pub(super) fn has_default(&self) -> bool {
        self.default.is_some()
    }
}

/// What a record turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// An event; `dated` when the file said when.
    Event { event: Event, dated: bool },
    /// A rating too low to be a preference, or a type that is to be skipped.
    NoPreference,
}

/// The event of a record. `row` counts the rows of its file from 1. Error: what is wrong, in words.
pub(super) fn event(
    record: &mut Record,
    row: u64,
    rules: &EventRules,
    now_micros: i64,
) -> Result<Outcome, String> {
    let user_id = id(record, field::USER_ID, "user_id")?;
    let product_id = id(record, field::PRODUCT_ID, "product_id")?;
    let Some(kind) = kind(record, rules)? else {
        return Ok(Outcome::NoPreference);
    };
    let said = at_micros(record, now_micros)?;
    let event_id = match record.is_empty(field::EVENT_ID) {
        true => derived_id(&user_id, &product_id, kind, said, row),
        false => id(record, field::EVENT_ID, "event_id")?,
    };
    if event_id.len() > EVENT_ID_BYTES {
        return Err(format!(
            "`event_id` has {} bytes, at most {EVENT_ID_BYTES} are allowed",
            event_id.len()
        ));
    }
    let mut source = text(record, field::SOURCE, "source", SOURCE_BYTES)?;
    if source.is_empty() {
        source.push_str("import");
    }
    let undated = UNDATED_FROM_MICROS + i64::try_from(row).unwrap_or(0) * 1_000_000;
    Ok(Outcome::Event {
        event: Event {
            event_id,
            user_id,
            product_id,
            kind,
            at_micros: said.unwrap_or(undated),
            source,
        },
        dated: said.is_some(),
    })
}

fn kind(record: &mut Record, rules: &EventRules) -> Result<Option<EventKind>, String> {
    let mut said = record.take(field::EVENT_TYPE);
    if said.trim().is_empty() {
        match &rules.default {
            Some(default) => said.clone_from(default),
            None => return Err("`event_type` is empty".into()),
        }
    }
    // The three names of the contract come without a detour.
    if let Some(Meaning::Kind(kind)) = rules.types.get(said.as_str()) {
        return Ok(Some(*kind));
    }
    match rules.types.get(&normal(&said)) {
        Some(Meaning::Kind(kind)) => Ok(Some(*kind)),
        Some(Meaning::Skip) => Ok(None),
        Some(Meaning::Rating(kind)) => {
            let value = record.take(field::VALUE);
            match value.trim().parse::<f64>() {
                Ok(value) if value.is_finite() => Ok((value >= rules.min_value).then_some(*kind)),
                _ => Err(format!(
                    "a {} needs a `value` that is a number, not {}",
                    said.trim(),
                    shown(&value)
                )),
            }
        }
        None => Err(format!(
            "`event_type` {} is not known; say what it is with --event '{}=view' (or add_to_cart, \
             purchase, skip)",
            shown(&said),
            said.trim().chars().take(40).collect::<String>()
        )),
    }
}

fn at_micros(record: &mut Record, now_micros: i64) -> Result<Option<i64>, String> {
    let said = record.take(field::TIMESTAMP);
    if said.trim().is_empty() {
        return Ok(None);
    }
    match parse_micros(&said) {
        None => Err(format!(
            "`timestamp` {} is not a time (write it like 2024-05-01T12:00:00Z, or as a Unix time)",
            shown(&said)
        )),
        Some(at) if at < 0 => Err(format!("`timestamp` {} is before 1970", shown(&said))),
        Some(at) if at > now_micros.saturating_add(DAY_MICROS) => {
            Err(format!("`timestamp` {} is more than a day in the future", shown(&said)))
        }
        at => Ok(at),
    }
}

/// The same facts give the same id, so that an event imported twice counts once. Without a time the
/// row's number takes its place: two rows that say the same are then two events.
fn derived_id(user: &str, product: &str, kind: EventKind, at: Option<i64>, row: u64) -> String {
    let mut hash = Sha256::new();
    for part in [user.as_bytes(), product.as_bytes(), kind.name().as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    match at {
        Some(at) => hash.update(at.to_le_bytes()),
        None => {
            hash.update(b"row");
            hash.update(row.to_le_bytes());
        }
    }
    format!("import-{}", hex::encode(&hash.finalize()[..16]))
}
