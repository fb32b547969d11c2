//! What start-up and jobs stream through: connections of their own, short read transactions.

use super::import::SqliteImport;
use super::rows::{self, PRODUCT_COLUMNS};
use super::{SqliteStore, failed, file, popularity};
use crate::catalog::{Ordinal, UserEvent};
use crate::store::{
    Bulk, Changed, Changes, Counts, Foreign, Import, PopularityMade, ProductChange, StoreError,
    StoredProduct,
};
use std::sync::atomic::Ordering;

/// Products read in one transaction. Embedding them may take hours, and the write-ahead log cannot be
/// emptied past an open reader.
const PAGE: usize = 2_048;

impl Bulk for SqliteStore {
    fn store_id(&self) -> Result<String, StoreError> {
        self.side()
            .query_row("SELECT value FROM meta WHERE name = 'store_id'", [], |row| row.get(0))
            .map_err(failed("reading the store's identity"))
    }

    fn catalog_revision(&self) -> Result<u64, StoreError> {
        self.side()
            .query_row("SELECT value FROM meta WHERE name = 'catalog_revision'", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(i64::unsigned_abs)
            .map_err(failed("reading the catalogue's revision"))
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn changes_since(&self, revision: u64, most: usize) -> Result<Option<Changes>, StoreError> {
        self.read_changes(revision, most)
    }

    fn change_products(&self, changes: Vec<ProductChange>) -> Result<Vec<Changed>, StoreError> {
        self.write_changes(changes)
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.side()
            .query_row(
                "SELECT (SELECT count(*) FROM products), (SELECT count(*) FROM events)",
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
            )
            .map(|(products, events)| Counts {
                products: products.unsigned_abs(),
                events: events.unsigned_abs(),
            })
            .map_err(failed("counting rows"))
    }

    fn foreign_events(&self) -> Result<Foreign, StoreError> {
        // Read first: what is appended meanwhile is rather taken for foreign once than never.
        let appended = self.appended.load(Ordering::Acquire);
        let stored = self
            .side()
            .query_row("SELECT coalesce(max(rowid), 0) FROM events", [], |row| row.get::<_, i64>(0))
            .map_err(failed("looking for events of others"))?;
        let latest = stored.unsigned_abs();
        Ok(Foreign { count: latest.saturating_sub(appended), latest })
    }

    fn users_after(&self, after: u64, most: usize) -> Result<Option<Vec<String>>, StoreError> {
        let doing = failed("looking whose events are new");
        let side = self.side();
        let mut statement = side
            .prepare_cached("SELECT DISTINCT user_id FROM events WHERE rowid > ?1 LIMIT ?2")
            .map_err(&doing)?;
        let rows = statement
            .query_map((after.cast_signed(), (most + 1) as i64), |row| row.get::<_, String>(0))
            .map_err(&doing)?;
        let users: Vec<String> = rows.collect::<Result<_, _>>().map_err(&doing)?;
        Ok((users.len() <= most).then_some(users))
    }

    fn scan_products(&self, each: &mut dyn FnMut(StoredProduct)) -> Result<(), StoreError> {
        let doing = failed("reading the catalogue");
        let connection = file::connect(&self.path, &self.settings)?;
        let mut statement = connection
            .prepare(&format!(
                "SELECT ordinal, {PRODUCT_COLUMNS} FROM products WHERE ordinal > ?1 \
                 ORDER BY ordinal LIMIT {PAGE}"
            ))
            .map_err(&doing)?;
        let mut after = -1_i64;
        loop {
            let mut page = Vec::with_capacity(PAGE);
            let mut rows = statement.query([after]).map_err(&doing)?;
            while let Some(row) = rows.next().map_err(&doing)? {
                let ordinal = Ordinal(row.get(0).map_err(&doing)?);
                page.push(StoredProduct {
                    ordinal,
                    product: rows::product(row, 1).map_err(&doing)?,
                });
            }
            drop(rows);
            let Some(last) = page.last() else { return Ok(()) };
            after = i64::from(last.ordinal.0);
            page.into_iter().for_each(&mut *each);
        }
    }

    fn scan_events(&self, each: &mut dyn FnMut(&str, UserEvent)) -> Result<(), StoreError> {
        let doing = failed("reading the events");
        let connection = file::connect(&self.path, &self.settings)?;
        let mut statement = connection
            .prepare("SELECT user_id, product_id, kind, at_micros FROM events")
            .map_err(&doing)?;
        let mut rows = statement.query([]).map_err(&doing)?;
        while let Some(row) = rows.next().map_err(&doing)? {
            let event = rows::user_event(row, 1).map_err(&doing)?;
            let user = row.get_ref(0).map_err(&doing)?;
            let user = user.as_str().map_err(|e| doing(e.into()))?;
            each(user, event);
        }
        Ok(())
    }

    fn popularity_made(&self) -> Result<Option<PopularityMade>, StoreError> {
        popularity::made(&self.side()).map_err(failed("reading popularity"))
    }

    fn scan_popularity(
        &self,
        _: &PopularityMade,
        each: &mut dyn FnMut(Ordinal, f64),
    ) -> Result<(), StoreError> {
        let connection = file::connect(&self.path, &self.settings)?;
        popularity::scan(&connection, each).map_err(failed("reading popularity"))
    }

    fn features_number(&self) -> Result<u64, StoreError> {
        popularity::features_number(&self.side()).map_err(failed("reading the features' number"))
    }

    fn begin_import(&self) -> Result<Box<dyn Import + '_>, StoreError> {
        Ok(Box::new(SqliteImport::begin(self)?))
    }
}
