//! Changes of single products, all in one transaction.

use super::Shared;
use super::fault::{Fault, Kind};
use super::query::Query;
use super::rows;
use crate::catalog::{Product, check_id};
use crate::store::change::Write;
use crate::store::{Changed, ProductChange, StoreError};
use deadpool_postgres::{Object, Transaction};
use std::collections::HashMap;
use std::time::Duration;

/// Two who change the same products at the same moment: one of them begins anew.
const ATTEMPTS: u32 = 8;
/// Between two attempts, the longer the more there were.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) const LOCK: Query = Query {
    name: "lock_products",
    sql: "SELECT product_id, name, description, category, brand, price, created_at, popularity
    FROM penstock.products WHERE product_id = ANY($1) ORDER BY product_id FOR UPDATE",
};
pub(super) const INSERT: Query = Query {
    name: "add_product",
    sql: "INSERT INTO penstock.products
    (product_id, name, description, category, brand, price, created_at, popularity)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
};
pub(super) const UPDATE: Query = Query {
    name: "update_product",
    sql: "UPDATE penstock.products SET name = $2, description = $3, category = $4, brand = $5,
    price = $6, created_at = $7, popularity = $8 WHERE product_id = $1",
};
pub(super) const DELETE: Query =
    Query { name: "delete_product", sql: "DELETE FROM penstock.products WHERE product_id = $1" };

/// See [`crate::store::Bulk::change_products`].
pub(super) async fn change(
    shared: &Shared,
    changes: &[ProductChange],
) -> Result<Vec<Changed>, StoreError> {
    const DOING: &str = "changing products";
    let mut attempt = 0;
    loop {
        attempt += 1;
        let changing = async {
            let mut client = shared.servers.primary.pool.get().await?;
            all(&mut client, changes).await
        };
        match changing.await {
            Ok(changed) => return Ok(changed),
            Err(Failed::Invalid(why)) => return Err(StoreError::Invalid(why)),
            // A product that was added meanwhile is a conflict, too.
            Err(Failed::Fault(fault)) if attempt < ATTEMPTS && is_conflict(&fault) => {
                tokio::time::sleep(AGAIN * attempt).await;
            }
            Err(Failed::Fault(fault)) => {
                if fault.kind() == Kind::ReadOnly {
                    shared.servers.primary.pool.forget();
                }
                return Err(fault.told(DOING));
            }
        }
    }
}

/// Why nothing was changed.
enum Failed {
    /// One of the changes makes no product.
    Invalid(String),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

fn is_conflict(fault: &Fault) -> bool {
    let unique = |error: &tokio_postgres::Error| {
        error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
    };
    fault.kind() == Kind::Conflict || matches!(fault, Fault::Query(error) if unique(error))
}

async fn all(client: &mut Object, changes: &[ProductChange]) -> Result<Vec<Changed>, Failed> {
    // No id has a NUL, and PostgreSQL takes no text that has.
    for change in changes {
        check_id(change.id()).map_err(Failed::Invalid)?;
    }
    let transaction = client.transaction().await?;
    let ids: Vec<&str> = changes.iter().map(ProductChange::id).collect();
    // All at once and in order: two who change the same products wait for each other.
    let lock = transaction.prepare_cached(LOCK.sql).await?;
    let rows = transaction.query(&lock, &[&ids]).await?;
    let there: Result<Vec<Product>, _> = rows.iter().map(rows::product).collect();
    let mut there: HashMap<String, Product> =
        there?.into_iter().map(|product| (product.id.clone(), product)).collect();
    let mut changed = Vec::with_capacity(changes.len());
    for change in changes {
        let id = change.id();
        let before = there.remove(id);
        let (planned, outcome) = change.clone().plan(before.clone()).map_err(Failed::Invalid)?;
        let after = match planned {
            Write::Nothing => before,
            Write::Add(product) => {
                write(&transaction, &INSERT, &product).await?;
                Some(product)
            }
            Write::Update(product) => {
                write(&transaction, &UPDATE, &product).await?;
                Some(product)
            }
            Write::Remove => {
                let delete = transaction.prepare_cached(DELETE.sql).await?;
                transaction.execute(&delete, &[&id]).await?;
                None
            }
        };
        there.extend(after.map(|product| (id.to_owned(), product)));
        changed.push(outcome);
    }
    transaction.commit().await?;
    Ok(changed)
}

async fn write(
    transaction: &Transaction<'_>,
    query: &Query,
    product: &Product,
) -> Result<(), Fault> {
    let statement = transaction.prepare_cached(query.sql).await?;
    let created_at = product.created_at.and_then(rows::day);
    transaction
        .execute(
            &statement,
            &[
                &product.id,
                &product.name,
                &product.description,
                &product.category,
                &product.brand,
                &product.price,
                &created_at,
                &product.popularity,
            ],
        )
        .await?;
    Ok(())
}
