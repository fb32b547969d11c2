//! One row: an event, its place in the order, when it was received, and the sum over all of that.

use crate::catalog::Event;
use crate::store::lite::kinds::{kind_number, kind_of};
use rusqlite::{Row as SqlRow, Statement};
use sha2::{Digest, Sha256};

/// In the order of [`read`].
pub(super) const COLUMNS: &str =
    "seq, event_id, user_id, product_id, kind, at_micros, source, received_micros, sum";

/// Adds a row, unless its event is there. A number that is there is an error: nothing was stored.
pub(super) const INSERT: &str = "INSERT INTO waiting (seq, event_id, user_id, product_id, kind, at_micros, source, \
    received_micros, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (event_id) DO NOTHING";

/// Adds a row that was salvaged, unless its number or its event is there.
pub(super) const SALVAGE: &str = "INSERT OR IGNORE INTO waiting (seq, event_id, user_id, product_id, kind, at_micros, \
    source, received_micros, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// What a row costs beside its texts: numbers, index entries, the space pages leave free. [`COST`] has it, too.
const OVERHEAD: u64 = 96;

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub seq: i64,
    pub received_micros: i64,
    pub event: Event,
}

/// What counts against the bound: the texts, twice where an index has them, too.
pub(super) fn cost(event: &Event) -> u64 {
    let twice = event.event_id.len() + event.user_id.len();
    (2 * twice + event.product_id.len() + event.source.len()) as u64 + OVERHEAD
}

/// [`cost`] of a stored row, in SQL.
pub(super) const COST: &str = "2 * (octet_length(event_id) + octet_length(user_id)) + octet_length(product_id) \
    + octet_length(source) + 96";

/// Eight bytes of a SHA-256 over all values, each text after its length.
pub(super) fn sum(seq: i64, received_micros: i64, event: &Event) -> i64 {
    let mut hash = Sha256::new();
    for text in [&event.event_id, &event.user_id, &event.product_id, &event.source] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    for number in [seq, received_micros, kind_number(event.kind), event.at_micros] {
        hash.update(number.to_le_bytes());
    }
    let digest = hash.finalize();
    i64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

impl Row {
    /// From raw values, in the order of [`COLUMNS`]; `None`: they are not what was stored.
    pub fn checked(
        seq: i64,
        [event_id, user_id, product_id, source]: [&[u8]; 4],
        [kind, at_micros, received_micros, stored]: [i64; 4],
    ) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let event = Event {
            event_id: text(event_id)?,
            user_id: text(user_id)?,
            product_id: text(product_id)?,
            kind: kind_of(kind)?,
            at_micros,
            source: text(source)?,
        };
        (sum(seq, received_micros, &event) == stored).then_some(Self {
            seq,
            received_micros,
            event,
        })
    }

    /// Puts it into `waiting` with the statement of [`INSERT`]; `false`: it is there.
    pub fn insert(&self, statement: &mut Statement<'_>) -> rusqlite::Result<bool> {
        insert(statement, self.seq, self.received_micros, &self.event)
    }
}

/// As [`Row::insert`].
pub(super) fn insert(
    statement: &mut Statement<'_>,
    seq: i64,
    received_micros: i64,
    event: &Event,
) -> rusqlite::Result<bool> {
    let changed = statement.execute((
        seq,
        &event.event_id,
        &event.user_id,
        &event.product_id,
        kind_number(event.kind),
        event.at_micros,
        &event.source,
        received_micros,
        sum(seq, received_micros, event),
    ))?;
    Ok(changed == 1)
}

/// A row of [`COLUMNS`]: its number, and `None` where the sum is wrong.
pub(super) fn read(row: &SqlRow<'_>) -> rusqlite::Result<(i64, Option<Row>)> {
    let seq: i64 = row.get(0)?;
    let texts = [1, 2, 3, 6].map(|at| row.get_ref(at).and_then(|value| Ok(value.as_bytes()?)));
    let numbers = [4, 5, 7, 8].map(|at| row.get_ref(at).and_then(|value| Ok(value.as_i64()?)));
    let row = match (texts, numbers) {
        (
            [Ok(event), Ok(user), Ok(product), Ok(source)],
            [Ok(kind), Ok(at), Ok(received), Ok(sum)],
        ) => Row::checked(seq, [event, user, product, source], [kind, at, received, sum]),
        // A value of another type than was stored.
        _ => None,
    };
    Ok((seq, row))
}
