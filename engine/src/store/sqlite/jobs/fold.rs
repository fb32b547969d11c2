//! Popularity, counted from the events after the last one that was counted. Scores and that number are written in one
//! transaction: a run that is killed or repeated changes nothing twice.
//!
//! A score is the binary logarithm of a sum of `weight · 2^(t / half_life)`, `t` since 1970, as in PostgreSQL.

use super::super::rows;
use super::{set_state, state_of};
use crate::catalog::EventKind;
use crate::features::weight;
use crate::store::jobs::{Folded, PopularityBy};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use serde_json::{Value, json};
use std::collections::HashMap;

pub(super) const JOB: &str = "popularity";

/// One product's events.
#[derive(Debug, Clone, Copy)]
struct Sum {
    /// `None`: nothing that counts.
    log2: Option<f64>,
    newest_micros: i64,
}

pub(super) fn fold(connection: &mut Connection, by: &PopularityBy) -> rusqlite::Result<Folded> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = state_of(&transaction, JOB)?.unwrap_or_default();
    let last: i64 =
        transaction
            .query_row("SELECT coalesce(max(rowid), 0) FROM events", [], |row| row.get(0))?;
    let counted = before["event"].as_i64().unwrap_or(0);
    let full = why_full(&before, by, counted, last);
    let after = if full.is_some() { 0 } else { counted };
    if full.is_some() {
        transaction.execute("DELETE FROM popularity", [])?;
    }
    let (fresh, events) = sum_up(&transaction, by, after)?;
    let products = if full.is_some() || !fresh.is_empty() { add(&transaction, &fresh)? } else { 0 };
    let number = before["number"].as_u64().unwrap_or(0);
    let number = if full.is_some() || events > 0 { number + 1 } else { number };
    // Also where there are no new events: products may have come or gone.
    let newest: Option<i64> = transaction.query_row(
        "SELECT max(newest_micros) FROM popularity JOIN products ON id = product_id",
        [],
        |row| row.get(0),
    )?;
    let state = json!({
        "event": last, "how": how(by), "number": number, "newest_micros": newest,
        "half_life_seconds": by.half_life.as_secs_f64(),
    });
    set_state(&transaction, JOB, &state)?;
    transaction.commit()?;
    Ok(Folded { events, products, full, number })
}

/// What must be the same for scores to be added to.
fn how(by: &PopularityBy) -> String {
    format!("{:?} {:?}", by.weights, by.half_life)
}

fn why_full(before: &Value, by: &PopularityBy, counted: i64, last: i64) -> Option<&'static str> {
    if before["event"].as_i64().is_none() {
        return Some("it was never counted");
    }
    if by.full {
        return Some("asked for");
    }
    if before["how"] != json!(how(by)) {
        return Some("weights or the half-life are others");
    }
    (counted > last).then_some("the file was restored")
}

fn sum_up(
    transaction: &Transaction<'_>,
    by: &PopularityBy,
    after: i64,
) -> rusqlite::Result<(HashMap<String, Sum>, u64)> {
    let half_life = by.half_life.as_secs_f64() * 1e6;
    let mut fresh: HashMap<String, Sum> = HashMap::new();
    let mut count = 0;
    let sql = "SELECT product_id, kind, at_micros FROM events WHERE rowid > ?1";
    let mut statement = transaction.prepare(sql)?;
    let mut events = statement.query([after])?;
    while let Some(row) = events.next()? {
        let event = rows::user_event(row, 0)?;
        count += 1;
        let log2 = log2(by, event.kind).map(|log2| log2 + event.at_micros as f64 / half_life);
        let one = Sum { log2, newest_micros: event.at_micros };
        fresh.entry(event.product_id).and_modify(|sum| *sum = sum.and(one)).or_insert(one);
    }
    Ok((fresh, count))
}

fn log2(by: &PopularityBy, kind: EventKind) -> Option<f64> {
    let weight = f64::from(weight(&by.weights, kind));
    (weight > 0.0).then(|| weight.log2())
}

impl Sum {
    fn and(self, other: Self) -> Self {
        let log2 = match (self.log2, other.log2) {
            (Some(a), Some(b)) => Some(a.max(b) + (1.0 + (-(a - b).abs()).exp2()).log2()),
            (a, b) => a.or(b),
        };
        Self { log2, newest_micros: self.newest_micros.max(other.newest_micros) }
    }
}

/// How many scores are other ones.
fn add(transaction: &Transaction<'_>, fresh: &HashMap<String, Sum>) -> rusqlite::Result<u64> {
    let mut read =
        transaction.prepare("SELECT score, newest_micros FROM popularity WHERE product_id = ?1")?;
    let mut write = transaction.prepare("INSERT OR REPLACE INTO popularity VALUES (?1, ?2, ?3)")?;
    let mut changed = 0;
    for (product, sum) in fresh {
        let sum_of =
            |row: &rusqlite::Row<'_>| Ok(Sum { log2: row.get(0)?, newest_micros: row.get(1)? });
        let before = read.query_row([product], sum_of).optional()?;
        let after = before.map_or(*sum, |before| before.and(*sum));
        changed += u64::from(before.and_then(|before| before.log2) != after.log2);
        write.execute((product, after.log2, after.newest_micros))?;
    }
    Ok(changed)
}
