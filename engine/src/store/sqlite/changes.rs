//! Changes of single products, and the list of what changed.
//!
//! Whoever changes products appends their numbers to `product_changes` in the same transaction, under the revision
//! that has the change. The list is bounded: `changes_from` in `meta` is the earliest revision after which it is
//! complete, and who is older than that reads everything. A large import empties it instead of filling it.

use super::rows::{self, PRODUCT_COLUMNS};
use super::{SqliteStore, failed, file};
use crate::catalog::{Ordinal, Product};
use crate::store::change::Write;
use crate::store::{Changed, ChangedProduct, Changes, ProductChange, StoreError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// Products that change at once and are listed; with more, nobody gains by reading them one by one.
pub(super) const MOST_LISTED: u64 = 50_000;
/// Changes that are kept: some megabytes, and days of a shop that changes a price a second.
const MOST_KEPT: i64 = 500_000;

impl SqliteStore {
    /// As [`Bulk::changes_since`](crate::store::Bulk::changes_since).
    pub(super) fn read_changes(
        &self,
        revision: u64,
        most: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let doing = failed("reading what changed");
        let side = self.side();
        // One snapshot: products are as they were at the revision that is told.
        let snapshot = side.unchecked_transaction().map_err(&doing)?;
        let now = number(&snapshot, "catalog_revision").map_err(&doing)?;
        let from = number(&snapshot, "changes_from").map_err(&doing)?;
        if !(from..=now).contains(&revision)
            || !listed_all(&snapshot, revision, now).map_err(&doing)?
        {
            return Ok(None);
        }
        let changed = changed(&snapshot, revision, most).map_err(&doing)?;
        Ok(changed.map(|products| Changes { revision: now, products }))
    }

    /// As [`Bulk::change_products`](crate::store::Bulk::change_products).
    pub(super) fn write_changes(
        &self,
        changes: Vec<ProductChange>,
    ) -> Result<Vec<Changed>, StoreError> {
        let doing = failed("changing products");
        // Its own: the side connection is for questions, and this waits for other writers.
        let mut connection = file::connect(&self.path, &self.settings)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&doing)?;
        let revision = number(&transaction, "catalog_revision").map_err(&doing)? + 1;
        let mut done = Vec::with_capacity(changes.len());
        for change in changes {
            let there = find(&transaction, change.id()).map_err(&doing)?;
            let (ordinal, product) = there.unzip();
            let (write, changed) = change.plan(product).map_err(StoreError::Invalid)?;
            apply(&transaction, revision, ordinal, &write).map_err(&doing)?;
            done.push(changed);
        }
        let changed = |done: &Changed| !matches!(done, Changed::Unchanged | Changed::Unknown);
        if !done.iter().any(changed) {
            return Ok(done);
        }
        raise_revision(&transaction).map_err(&doing)?;
        refuse_used_up(&transaction, "changed")?;
        prune(&transaction, MOST_KEPT).map_err(&doing)?;
        transaction.commit().map_err(&doing)?;
        Ok(done)
    }
}

/// Whether every revision after this one is listed: an import of an older program that was under way during the
/// migration, or a person with a database shell, raises the revision and lists nothing.
fn listed_all(snapshot: &Connection, revision: u64, now: u64) -> rusqlite::Result<bool> {
    let count = "SELECT count(DISTINCT revision) FROM product_changes WHERE revision > ?1";
    let listed: i64 =
        snapshot.prepare_cached(count)?.query_row([revision.cast_signed()], |row| row.get(0))?;
    Ok(listed.unsigned_abs() == now - revision)
}

fn changed(
    snapshot: &Connection,
    revision: u64,
    most: usize,
) -> rusqlite::Result<Option<Vec<ChangedProduct>>> {
    let mut statement = snapshot.prepare_cached(&format!(
        "SELECT c.ordinal, c.id, p.ordinal, {columns} FROM (SELECT DISTINCT ordinal, id \
         FROM product_changes WHERE revision > ?1 ORDER BY ordinal LIMIT ?2) c \
         LEFT JOIN products p ON p.ordinal = c.ordinal",
        columns = rows::qualified("p")
    ))?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let mut rows = statement.query((revision.cast_signed(), limit))?;
    let mut products = Vec::new();
    while let Some(row) = rows.next()? {
        let there: Option<i64> = row.get(2)?;
        products.push(ChangedProduct {
            ordinal: Ordinal(row.get(0)?),
            id: row.get(1)?,
            product: there.map(|_| rows::product(row, 3)).transpose()?,
        });
    }
    if products.len() > most {
        return Ok(None);
    }
    products.sort_unstable_by_key(|changed| changed.ordinal);
    Ok(Some(products))
}

fn find(transaction: &Connection, id: &str) -> rusqlite::Result<Option<(i64, Product)>> {
    transaction
        .prepare_cached(&format!("SELECT ordinal, {PRODUCT_COLUMNS} FROM products WHERE id = ?1"))?
        .query_row([id], |row| Ok((row.get(0)?, rows::product(row, 1)?)))
        .optional()
}

/// Writes and lists one change. Numbers come from AUTOINCREMENT: one that was deleted never comes back.
fn apply(
    transaction: &Connection,
    revision: u64,
    ordinal: Option<i64>,
    write: &Write,
) -> rusqlite::Result<()> {
    let (ordinal, id) = match (write, ordinal) {
        (Write::Add(product), _) => {
            let insert = format!(
                "INSERT INTO products ({PRODUCT_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            );
            transaction.prepare_cached(&insert)?.execute(rows::values(product))?;
            (transaction.last_insert_rowid(), None)
        }
        (Write::Update(product), Some(ordinal)) => {
            let update = "UPDATE products SET name = ?2, description = ?3, category = ?4, \
                brand = ?5, price = ?6, created_at = ?7, popularity = ?8 WHERE id = ?1";
            transaction.prepare_cached(update)?.execute(rows::values(product))?;
            (ordinal, None)
        }
        (Write::Remove, Some(ordinal)) => {
            let delete = "DELETE FROM products WHERE ordinal = ?1 RETURNING id";
            let id: String =
                transaction.prepare_cached(delete)?.query_row([ordinal], |row| row.get(0))?;
            (ordinal, Some(id))
        }
        _ => return Ok(()),
    };
    let list = "INSERT INTO product_changes (revision, ordinal, id) \
        VALUES (?1, ?2, coalesce(?3, (SELECT id FROM products WHERE ordinal = ?2)))";
    transaction.prepare_cached(list)?.execute((revision.cast_signed(), ordinal, id))?;
    Ok(())
}

/// Lists everything that is staged as changed, or forgets the list where that is too much. `revision` has it.
pub(super) fn list_staged(transaction: &Transaction<'_>, revision: u64) -> rusqlite::Result<()> {
    let staged: i64 =
        transaction.query_row("SELECT count(*) FROM stage.products", [], |row| row.get(0))?;
    let revision = revision.cast_signed();
    if staged.unsigned_abs() > MOST_LISTED {
        transaction.execute("DELETE FROM main.product_changes", [])?;
        return set_from(transaction, revision);
    }
    transaction.execute(
        "INSERT INTO main.product_changes (revision, ordinal, id) SELECT ?1, p.ordinal, p.id \
         FROM stage.products s JOIN main.products p ON p.id = s.id",
        [revision],
    )?;
    prune(transaction, MOST_KEPT)
}

/// The catalogue is another one; its new revision.
pub(super) fn raise_revision(transaction: &Connection) -> rusqlite::Result<u64> {
    let raise = "UPDATE main.meta SET value = value + 1 WHERE name = 'catalog_revision' \
        RETURNING value";
    transaction.query_row(raise, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Products are addressed by 32 bits.
pub(super) fn refuse_used_up(transaction: &Connection, done: &str) -> Result<(), StoreError> {
    let last: i64 = transaction
        .query_row("SELECT coalesce(max(ordinal), 0) FROM main.products", [], |row| row.get(0))
        .map_err(failed("looking for the last number"))?;
    if last <= i64::from(u32::MAX) {
        return Ok(());
    }
    let numbers = u32::MAX;
    Err(StoreError::Format(format!(
        "the catalogue has used up its {numbers} product numbers; nothing was {done}"
    )))
}

/// Keeps the latest changes only.
fn prune(transaction: &Connection, keep: i64) -> rusqlite::Result<()> {
    // The last of those that go: its own revision is not known whole any more.
    let last: Option<(i64, i64)> = transaction
        .query_row(
            "SELECT number, revision FROM main.product_changes WHERE number <= \
             (SELECT max(number) FROM main.product_changes) - ?1 ORDER BY number DESC LIMIT 1",
            [keep],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((number, revision)) = last else { return Ok(()) };
    transaction.execute("DELETE FROM main.product_changes WHERE number <= ?1", [number])?;
    set_from(transaction, revision)
}

fn set_from(transaction: &Connection, revision: i64) -> rusqlite::Result<()> {
    let set = "UPDATE main.meta SET value = ?1 WHERE name = 'changes_from'";
    transaction.execute(set, [revision]).map(|_| ())
}

fn number(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM main.meta WHERE name = ?1")?
        .query_row([name], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

#[cfg(test)]
mod tests;
