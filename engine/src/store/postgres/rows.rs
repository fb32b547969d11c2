//! Rows of the tables and the values of the catalogue, in both directions.

use crate::catalog::{EventKind, Ordinal, Product, UserEvent};
use crate::store::StoredProduct;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_postgres::types::FromSql;
use tokio_postgres::{Error, Row};

/// Years a `timestamptz` holds, in seconds since 1970: 4714 BC to 294276.
const LEAST_SECONDS: i64 = -210_866_803_200;
const MOST_SECONDS: i64 = 9_224_318_015_999;

/// A product from `product_id, name, description, category, brand, price, created_at, popularity`.
pub(super) fn product(row: &Row) -> Result<Product, Error> {
    Ok(Product { id: row.try_get(0)?, ..values(row, 1)? })
}

/// A product without its id, from `name …` at column `first`.
pub(super) fn values(row: &Row, first: usize) -> Result<Product, Error> {
    let created_at: Option<Moment> = row.try_get(first + 5)?;
    Ok(Product {
        id: String::new(),
        name: row.try_get(first)?,
        description: row.try_get(first + 1)?,
        category: row.try_get(first + 2)?,
        brand: row.try_get(first + 3)?,
        price: row.try_get(first + 4)?,
        created_at: created_at.map(|moment| moment.0.div_euclid(1_000_000)),
        popularity: row.try_get(first + 6)?,
    })
}

/// As [`product`], with the ordinal behind.
pub(super) fn stored_product(row: &Row) -> Result<StoredProduct, Error> {
    Ok(StoredProduct { ordinal: ordinal(row, 8)?, product: product(row)? })
}

pub(super) fn ordinal(row: &Row, column: usize) -> Result<Ordinal, Error> {
    // The column's sequence ends at the greatest number of 32 bits.
    row.try_get::<_, i64>(column).map(|number| Ordinal(number as u32))
}

/// An event from `product_id, event_type, timestamp` at column `first`.
pub(super) fn user_event(row: &Row, first: usize) -> Result<UserEvent, Error> {
    let kind: &str = row.try_get(first + 1)?;
    let at: Moment = row.try_get(first + 2)?;
    Ok(UserEvent {
        product_id: row.try_get(first)?,
        // The column's type has these alone; one that a later version adds counts least.
        kind: EventKind::from_name(kind).unwrap_or(EventKind::View),
        at_micros: at.0,
    })
}

/// Microseconds since 1970, as `timestamptz`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub i64);

impl<'a> FromSql<'a> for Moment {
    fn from_sql(
        kind: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let moment = SystemTime::from_sql(kind, raw)?;
        let micros = match moment.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros())?,
            Err(before) => -i64::try_from(before.duration().as_micros())?,
        };
        Ok(Self(micros))
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        <SystemTime as FromSql>::accepts(kind)
    }
}

/// For a parameter of type `timestamptz`.
pub(super) fn moment(micros: i64) -> SystemTime {
    let micros = micros.clamp(LEAST_SECONDS * 1_000_000, MOST_SECONDS.saturating_mul(1_000_000));
    let apart = Duration::from_micros(micros.unsigned_abs());
    if micros >= 0 { UNIX_EPOCH + apart } else { UNIX_EPOCH - apart }
}

/// The same from seconds; `None` where the year cannot be stored.
pub(super) fn day(seconds: i64) -> Option<SystemTime> {
    (LEAST_SECONDS..=MOST_SECONDS).contains(&seconds).then(|| {
        let apart = Duration::from_secs(seconds.unsigned_abs());
        if seconds >= 0 { UNIX_EPOCH + apart } else { UNIX_EPOCH - apart }
    })
}
