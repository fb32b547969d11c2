//! Changes of single products, all in one transaction.

use super::Shared;
use super::fault::{Fault, Kind};
use super::query::Query;
use super::rows;
use crate::catalog::Product;
use crate::store::{Changed, ProductChange, ProductPatch, StoreError};
use deadpool_postgres::{Object, Transaction};

/// Two who change the same products at the same moment: one of them begins anew.
const ATTEMPTS: usize = 5;

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
            // A product that was added meanwhile is a conflict, too.
            Err(fault) if attempt < ATTEMPTS && is_conflict(&fault) => {}
            Err(fault) => {
                if fault.kind() == Kind::ReadOnly {
                    shared.servers.primary.pool.forget();
                }
                return Err(fault.told(DOING));
            }
        }
    }
}

fn is_conflict(fault: &Fault) -> bool {
    let unique = |error: &tokio_postgres::Error| {
        error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
    };
    fault.kind() == Kind::Conflict || matches!(fault, Fault::Query(error) if unique(error))
}

async fn all(client: &mut Object, changes: &[ProductChange]) -> Result<Vec<Changed>, Fault> {
    let transaction = client.transaction().await?;
    let ids: Vec<&str> = changes.iter().map(id_of).collect();
    // All at once and in order: two who change the same products wait for each other.
    let lock = transaction.prepare_cached(LOCK.sql).await?;
    let rows = transaction.query(&lock, &[&ids]).await?;
    let there: Result<Vec<Product>, _> = rows.iter().map(rows::product).collect();
    let mut there: std::collections::HashMap<String, Product> =
        there?.into_iter().map(|product| (product.id.clone(), product)).collect();
    let mut changed = Vec::with_capacity(changes.len());
    for change in changes {
        let before = there.remove(id_of(change));
        let (outcome, after) = outcome(change, before);
        match (outcome, &after) {
            (Changed::Added, Some(product)) => write(&transaction, &INSERT, product).await?,
            (Changed::Updated, Some(product)) => write(&transaction, &UPDATE, product).await?,
            (Changed::Deleted, _) => {
                let delete = transaction.prepare_cached(DELETE.sql).await?;
                transaction.execute(&delete, &[&id_of(change)]).await?;
            }
            _ => {}
        }
        if let Some(product) = after {
            there.insert(product.id.clone(), product);
        }
        changed.push(outcome);
    }
    transaction.commit().await?;
    Ok(changed)
}

fn id_of(change: &ProductChange) -> &str {
    match change {
        ProductChange::Put(product) => &product.id,
        ProductChange::Patch(patch) => &patch.id,
        ProductChange::Delete(id) => id,
    }
}

/// What becomes of a product, and what it is then.
fn outcome(change: &ProductChange, before: Option<Product>) -> (Changed, Option<Product>) {
    let after = match (change, &before) {
        (ProductChange::Put(product), None) => return (Changed::Added, Some(product.clone())),
        (ProductChange::Put(product), Some(_)) => product.clone(),
        (ProductChange::Patch(patch), Some(before)) => patched(patch, before),
        (ProductChange::Delete(_), Some(_)) => return (Changed::Deleted, None),
        (ProductChange::Patch(_) | ProductChange::Delete(_), None) => {
            return (Changed::Unknown, None);
        }
    };
    if before.as_ref() == Some(&after) {
        (Changed::Unchanged, before)
    } else {
        (Changed::Updated, Some(after))
    }
}

fn patched(patch: &ProductPatch, before: &Product) -> Product {
    let text = |new: &Option<String>, old: &String| new.as_ref().unwrap_or(old).clone();
    Product {
        id: before.id.clone(),
        name: text(&patch.name, &before.name),
        description: text(&patch.description, &before.description),
        category: text(&patch.category, &before.category),
        brand: text(&patch.brand, &before.brand),
        price: patch.price.unwrap_or(before.price),
        created_at: patch.created_at.unwrap_or(before.created_at),
        popularity: patch.popularity.unwrap_or(before.popularity),
    }
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
