//! Rows of the tables and the values of the catalogue, in both directions.

use crate::catalog::{Product, UserEvent};
use crate::store::lite::kinds::kind_of;
use rusqlite::Row;

/// A product's columns, in the order of [`product`].
pub(super) const PRODUCT_COLUMNS: &str =
    "id, name, description, category, brand, price, created_at, popularity";

/// A product from [`PRODUCT_COLUMNS`], which begin at column `first`.
pub(super) fn product(row: &Row<'_>, first: usize) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(first)?,
        name: row.get(first + 1)?,
        description: row.get(first + 2)?,
        category: row.get(first + 3)?,
        brand: row.get(first + 4)?,
        price: row.get(first + 5)?,
        created_at: row.get(first + 6)?,
        popularity: row.get(first + 7)?,
    })
}

/// [`PRODUCT_COLUMNS`] of the table that a query calls so.
pub(super) fn qualified(table: &str) -> String {
    let columns = PRODUCT_COLUMNS.split(", ").map(|column| format!("{table}.{column}"));
    columns.collect::<Vec<_>>().join(", ")
}

/// What is stored of a product, in the order of [`PRODUCT_COLUMNS`].
pub(super) fn values(product: &Product) -> impl rusqlite::Params + '_ {
    let Product { id, name, description, category, brand, price, created_at, popularity } = product;
    (id, name, description, category, brand, *price, *created_at, *popularity)
}

/// An event from `product_id, kind, at_micros`, which begin at column `first`.
pub(super) fn user_event(row: &Row<'_>, first: usize) -> rusqlite::Result<UserEvent> {
    let number: i64 = row.get(first + 1)?;
    let kind =
        kind_of(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(first + 1, number))?;
    Ok(UserEvent { product_id: row.get(first)?, kind, at_micros: row.get(first + 2)? })
}
