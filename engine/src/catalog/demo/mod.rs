//! The demo shop: a generated catalogue with shoppers who have tastes.
//!
//! Deterministic: the same [`DemoShop`] gives the same rows on every machine of a kind. Products are
//! named from a vocabulary with synonyms (`vocabulary.txt`), so that both kinds of retrieval have
//! something to find; prices are log-normal by category and brand; popularity within a category
//! follows Zipf's law; sessions go from views through the cart to purchases.

mod products;
mod sample;
mod shoppers;
#[cfg(test)]
mod tests;
mod vocabulary;

use crate::store::{Bulk, Imported, StoreError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A day, in microseconds.
const DAY_MICROS: i64 = 86_400_000_000;
/// Products were added during this many days.
const CATALOGUE_DAYS: i64 = 730;
/// Events happened during this many days.
const EVENT_DAYS: i64 = 120;
/// Progress is told every so many rows.
const TELL_ROWS: u64 = 1000;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoShop {
    /// Products, at least 1.
    pub products: u32,
    /// Events.
    pub events: u64,
    /// Users, at least 1.
    pub users: u32,
    /// Another seed, another shop.
    pub seed: u64,
    /// The end of the shop's history, microseconds since 1970.
    pub as_of_micros: i64,
}

impl DemoShop {
    /// The shop of `make run`, with a history that ends on the day of `now_micros` at midnight UTC:
    /// made twice on one day, it is the same.
    pub fn on_day_of(now_micros: i64) -> Self {
        Self {
            products: 6000,
            events: 120_000,
            users: 3000,
            seed: 7,
            as_of_micros: now_micros.div_euclid(DAY_MICROS) * DAY_MICROS,
        }
    }

    /// Generates the shop into `store`, all or nothing, and tells how many rows are done. Product
    /// ids are `FUR-00001`, users `user-1`, events `demo-<seed>-1`: a shop with the same seed made
    /// into the same store again updates the products and keeps the events.
    pub fn generate(
        &self,
        store: &dyn Bulk,
        progress: &dyn Fn(u64),
    ) -> Result<Imported, StoreError> {
        let shop = Self { products: self.products.max(1), users: self.users.max(1), ..*self };
        let mut import = store.begin_import()?;
        let mut rows = 0;
        let mut told = || {
            rows += 1;
            if rows % TELL_ROWS == 0 {
                progress(rows);
            }
        };
        // A generator for each part: more events leave the products as they are.
        let mut random = ChaCha8Rng::seed_from_u64(shop.seed);
        let shelves = products::stock(&shop, &mut random, &mut |product| {
            told();
            import.put_product(product)
        })?;
        random.set_stream(1);
        shoppers::visit(&shop, &shelves, &mut random, &mut |event| {
            told();
            import.put_event(event)
        })?;
        import.commit()
    }
}
