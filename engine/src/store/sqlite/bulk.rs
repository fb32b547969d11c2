//! What start-up and jobs stream through: connections of their own, one read transaction a scan.

use super::import::SqliteImport;
use super::rows::{self, PRODUCT_COLUMNS};
use super::{SqliteStore, failed, file};
use crate::catalog::{Ordinal, UserEvent};
use crate::store::{Bulk, Counts, Import, StoreError, StoredProduct};

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

    fn scan_products(&self, each: &mut dyn FnMut(StoredProduct)) -> Result<(), StoreError> {
        let doing = failed("reading the catalogue");
        let connection = file::connect(&self.path, &self.settings)?;
        let mut statement = connection
            .prepare(&format!("SELECT ordinal, {PRODUCT_COLUMNS} FROM products ORDER BY ordinal"))
            .map_err(&doing)?;
        let mut rows = statement.query([]).map_err(&doing)?;
        while let Some(row) = rows.next().map_err(&doing)? {
            let ordinal = Ordinal(row.get(0).map_err(&doing)?);
            let product = rows::product(row, 1).map_err(&doing)?;
            each(StoredProduct { ordinal, product });
        }
        Ok(())
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

    fn begin_import(&self) -> Result<Box<dyn Import + '_>, StoreError> {
        Ok(Box::new(SqliteImport::begin(self)?))
    }
}
