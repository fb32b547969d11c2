//! Rows out of bare pages, without SQLite: what can be read of a damaged file does not depend on its trees being
//! whole. A row is taken only where its sum is right, so whatever else looks like one does no harm.
//!
//! The format is <https://sqlite.org/fileformat2.html>: a leaf of a table is a list of cells, a cell is a length, a
//! row number and a record, a record is a list of types and then the values. Rows that overflow their page (ids of
//! kilobytes) are not pieced together.

use super::row::Row;
use super::totals::Totals;

const LEAF: u8 = 0x0D;
/// Values in a row of `waiting`; of one of `aside` there are three more.
const WAITING: usize = 9;
const ASIDE: usize = 12;
const TOTALS: usize = 13;

/// What a page brought.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub rows: Vec<Row>,
    /// Rows of `waiting` whose sum is wrong.
    pub wrong: u64,
    /// The latest counts. They have no sum: good for counting what is lost, and for nothing else.
    pub totals: Option<Totals>,
}

/// Reads a page's rows.
pub(super) fn read(page: &[u8], found: &mut Found) {
    if page.first() != Some(&LEAF) {
        return;
    }
    let two =
        |at: usize| Some(usize::from(u16::from_be_bytes(page.get(at..at + 2)?.try_into().ok()?)));
    let cells = two(3).unwrap_or(0);
    for cell in 0..cells {
        let Some(at) = two(8 + 2 * cell) else { return };
        match page.get(at..).and_then(self::cell) {
            Some(Cell::Row(row)) => found.rows.push(row),
            Some(Cell::Wrong) => found.wrong += 1,
            Some(Cell::Totals(totals)) => {
                found.totals = newer(found.totals, Some(totals));
            }
            None => {}
        }
    }
}

/// The newer of two counts.
pub(super) fn newer(one: Option<Totals>, other: Option<Totals>) -> Option<Totals> {
    one.into_iter().chain(other).max_by_key(|totals| totals.change)
}

/// A value of a record.
#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Number(i64),
    Bytes(&'a [u8]),
}

enum Cell {
    Row(Row),
    /// A row of `waiting`, but its sum is wrong.
    Wrong,
    Totals(Totals),
}

/// `None`: nothing of ours.
fn cell(cell: &[u8]) -> Option<Cell> {
    let mut rest = cell;
    let length = usize::try_from(number(&mut rest)?).ok()?;
    let seq = number(&mut rest)?;
    let record = rest.get(..length)?;
    let mut types = record;
    let header = usize::try_from(number(&mut types)?).ok()?;
    let taken = record.len() - types.len();
    let mut types = record.get(taken..header)?;
    let mut body = record.get(header..)?;
    let mut values = [Value::Null; TOTALS];
    let mut count = 0;
    while !types.is_empty() {
        *values.get_mut(count)? = value(number(&mut types)?, &mut body)?;
        count += 1;
    }
    use Value::{Bytes, Null, Number};
    match (count, &values) {
        (
            WAITING | ASIDE,
            [
                Null,
                Bytes(event),
                Bytes(user),
                Bytes(product),
                Number(kind),
                Number(at),
                Bytes(source),
                Number(received),
                Number(sum),
                ..,
            ],
        ) => {
            let numbers = [*kind, *at, *received, *sum];
            match Row::checked(seq, [event, user, product, source], numbers) {
                Some(row) => Some(Cell::Row(row)),
                // What is aside may have been damaged before.
                None => (count == WAITING).then_some(Cell::Wrong),
            }
        }
        (TOTALS, [Null, numbers @ ..]) => {
            let mut counts = [0; TOTALS - 1];
            for (count, value) in counts.iter_mut().zip(numbers) {
                let Number(number) = value else { return None };
                *count = *number;
            }
            Totals::from_values(&counts).map(Cell::Totals)
        }
        _ => None,
    }
}

fn value<'a>(kind: i64, body: &mut &'a [u8]) -> Option<Value<'a>> {
    let length = match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind as usize,
        5 => 6,
        6 | 7 => 8,
        12.. => usize::try_from((kind - 12) / 2).ok()?,
        _ => return None,
    };
    let (bytes, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(match kind {
        0 => Value::Null,
        8 | 9 => Value::Number(kind - 8),
        1..=6 => {
            let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
            Value::Number(bytes.iter().fold(sign, |sum, byte| sum << 8 | i64::from(*byte)))
        }
        _ => Value::Bytes(bytes),
    })
}

/// A number of one to nine bytes.
fn number(rest: &mut &[u8]) -> Option<i64> {
    let mut sum: u64 = 0;
    for place in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        if place == 8 {
            return Some((sum << 8 | u64::from(*byte)).cast_signed());
        }
        sum = sum << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(sum.cast_signed())
}
