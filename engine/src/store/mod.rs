//! Where the catalogue and the events live. One interface; SQLite is the embedded default.
//!
//! Two halves: [`Store`] is what a request may wait for (every call under a deadline of the
//! caller's), [`Bulk`] is what start-up, import and jobs stream through.

mod change;
#[cfg(feature = "train")]
pub mod jobs;
mod lite;
pub mod postgres;
pub mod spool;
pub mod sqlite;

pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

use crate::catalog::{Event, Ordinal, Product, UserEvent};
use crate::features::Entity;
use futures::future::BoxFuture;
use std::time::Duration;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store could not be opened, read or written.
    #[error("store: {0}")]
    Unavailable(String),
    /// Too many calls wait already.
    #[error("store: too many calls are waiting ({0})")]
    Busy(usize),
    /// There is no room for more events: as many wait to be shipped as may, or the disk is full. There is room
    /// again when some were shipped. Reading goes on.
    #[error("store: no room for more events: {0}")]
    Full(String),
    /// The store holds something this version cannot read.
    #[error("store: {0}")]
    Format(String),
    /// What was asked for makes no sense, and asking again would not help.
    #[error("{0}")]
    Invalid(String),
}

/// A product with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredProduct {
    /// The store's number for it.
    pub ordinal: Ordinal,
    /// The product.
    pub product: Product,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Products.
    pub products: u64,
    /// Events.
    pub events: u64,
}

/// A change of one product, as the shop or an operator asks for it.
#[derive(Debug, Clone, PartialEq)]
pub enum ProductChange {
    /// The product is to be exactly so; added when there is none with its id.
    Put(Product),
    /// Some values of a product that is there.
    Patch(ProductPatch),
    /// The product with this id is to be gone. Its number is never given to another one.
    Delete(String),
}

/// New values for a product; `None` leaves what is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProductPatch {
    /// Whose values these are.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its description; empty: none.
    pub description: Option<String>,
    /// Its category; empty: none.
    pub category: Option<String>,
    /// Its brand; empty: none.
    pub brand: Option<String>,
    /// In the shop's currency; `Some(None)`: unknown from now on.
    pub price: Option<Option<f64>>,
    /// Seconds since 1970; `Some(None)`: unknown from now on.
    pub created_at: Option<Option<i64>>,
    /// The shop's own figure; `Some(None)`: unknown from now on.
    pub popularity: Option<Option<f64>>,
}

/// What became of a [`ProductChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// It was not there before.
    Added,
    /// It was there with other values.
    Updated,
    /// It was there exactly so.
    Unchanged,
    /// It was there and is gone.
    Deleted,
    /// There is no product with this id to patch or delete.
    Unknown,
}

/// A product that is different from what it was at an earlier revision.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedProduct {
    /// The store's number for it.
    pub ordinal: Ordinal,
    /// The shop's id.
    pub id: String,
    /// As it is now; `None`: gone.
    pub product: Option<Product>,
}

/// What changed between two revisions of the catalogue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// The revision that has all of them and nothing later.
    pub revision: u64,
    /// Each changed product once, by ascending number. One that was deleted and added again is there twice,
    /// because it has two numbers.
    pub products: Vec<ChangedProduct>,
}

/// Users have events that were not there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersChanged {
    /// Whose; `None`: anybody's.
    pub users: Option<Vec<String>>,
    /// Another instance stored them, which tells the fleet itself.
    pub by_the_fleet: bool,
}

/// How it stands with a database.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DatabaseStatus {
    /// Takes writes.
    pub primary: postgres::ServerStatus,
    /// Are read from.
    pub replicas: Vec<postgres::ServerStatus>,
    /// Where events wait for it.
    pub spool: Option<spool::Status>,
}

/// What others stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Foreign {
    /// Events of others; only grows.
    pub count: u64,
    /// The number of the latest event, whoever stored it.
    pub latest: u64,
}

/// The popularity that the job made last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PopularityMade {
    /// Grows whenever scores changed.
    pub number: u64,
    /// The newest event on a product of the catalogue, microseconds since 1970; `None`: there was none.
    pub newest_micros: Option<i64>,
    /// After this long an event counted half.
    pub half_life: Duration,
}

/// What requests ask of the store. Calls never block the caller's thread.
pub trait Store: Send + Sync {
    /// Full products for `ids`, in the same order; `None` for unknown ids. One query.
    fn products(&self, ids: Vec<String>)
    -> BoxFuture<'_, Result<Vec<Option<Product>>, StoreError>>;

    /// The user's latest events, newest first, at most `limit`. One query; empty for an unknown user.
    fn recent_events(
        &self,
        user_id: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserEvent>, StoreError>>;

    /// Stores events in one transaction and waits until they are on disk. `true` where the event is
    /// new, `false` where its `event_id` was there already; in the order given.
    fn append_events(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>>;

    /// The stored values of these features of a product or a user, in the order of `names`; `None` where there is no
    /// value. One query. A store without jobs has none.
    fn features(
        &self,
        entity: Entity,
        id: String,
        names: Vec<&'static str>,
    ) -> BoxFuture<'_, Result<Vec<Option<serde_json::Value>>, StoreError>> {
        let _ = (entity, id);
        Box::pin(async move { Ok(vec![None; names.len()]) })
    }
}

/// What start-up, import and jobs stream through. Calls block; rows are not held in memory.
pub trait Bulk: Send + Sync {
    /// Identity of this store, made when it was created. An index made from another store is refused.
    fn store_id(&self) -> Result<String, StoreError>;

    /// Grows with every change of a product (not of events).
    fn catalog_revision(&self) -> Result<u64, StoreError>;

    /// What is different now from what it was at `revision`, read in one snapshot. `None`: more than `most`
    /// products are, or the store does not know that far back any more; then everything is to be read.
    fn changes_since(&self, revision: u64, most: usize) -> Result<Option<Changes>, StoreError> {
        let _ = (revision, most);
        Ok(None)
    }

    /// Changes products one by one in one transaction, durably; what became of each, in their order. Nothing is
    /// changed on an error. [`StoreError::Invalid`] where one of them is no product ([`Product::check`]).
    fn change_products(&self, changes: Vec<ProductChange>) -> Result<Vec<Changed>, StoreError>;

    /// Calls `wake` (which returns at once) soon after the catalogue has changed. A store that is not told of
    /// changes never does; its revision is asked for now and then all the same.
    fn wake_on_change(&self, wake: std::sync::Arc<dyn Fn() + Send + Sync>) {
        let _ = wake;
    }

    /// Calls `told` (which returns at once) when users have new events that were not stored through this handle, and
    /// once more when those that were are there for everybody to read. A store that is not told of any never does.
    fn on_users(&self, told: std::sync::Arc<dyn Fn(UsersChanged) + Send + Sync>) {
        let _ = told;
    }

    /// Calls `told` (which returns at once) when it was away and answers again, so that nobody waits any longer before it
    /// is asked.
    fn on_recovered(&self, told: std::sync::Arc<dyn Fn() + Send + Sync>) {
        let _ = told;
    }

    /// What the policy says about breakers is in force.
    fn policy_changed(&self, policy: &penstock_config::policy::Policy) {
        let _ = policy;
    }

    /// Where it is, as an operator knows it.
    fn place(&self) -> String;

    /// The servers it is on; `None`: it is a file.
    fn database(&self) -> Option<DatabaseStatus> {
        None
    }

    /// The breakers in front of those servers, to be looked at and forced.
    fn breakers(&self) -> Vec<&crate::resilience::Breaker> {
        Vec::new()
    }

    /// Rows in each table.
    fn counts(&self) -> Result<Counts, StoreError>;

    /// All instances of a fleet work on the same data. A file is of one machine: its copies go their own ways.
    fn is_shared(&self) -> bool {
        false
    }

    /// Events stored by anybody but this handle: another process, an import. A store that cannot tell says none.
    fn foreign_events(&self) -> Result<Foreign, StoreError> {
        Ok(Foreign::default())
    }

    /// The users of events that were stored after the one with the number `after`; `None`: more than `most`.
    fn users_after(&self, after: u64, most: usize) -> Result<Option<Vec<String>>, StoreError> {
        let _ = (after, most);
        Ok(None)
    }

    /// What the job `popularity` made last; `None`: it has never run here.
    fn popularity_made(&self) -> Result<Option<PopularityMade>, StoreError> {
        Ok(None)
    }

    /// Grows when it was heard that the job made another one: [`Bulk::popularity_made`] is worth asking then. A store
    /// that is not told never says so.
    fn popularity_news(&self) -> u64 {
        0
    }

    /// The scores it made, not older than `made`: per product the binary logarithm of the weight of its events, decayed
    /// forward from 1970. Products without events are left out.
    fn scan_popularity(
        &self,
        made: &PopularityMade,
        each: &mut dyn FnMut(Ordinal, f64),
    ) -> Result<(), StoreError> {
        let _ = (made, each);
        Ok(())
    }

    /// Grows when jobs stored features of users. A store that tells by [`Bulk::on_users`] says nothing here.
    fn features_number(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Every product, in ascending order of its number.
    fn scan_products(&self, each: &mut dyn FnMut(StoredProduct)) -> Result<(), StoreError>;

    /// Every event, in no stated order: `(user_id, event)`.
    fn scan_events(&self, each: &mut dyn FnMut(&str, UserEvent)) -> Result<(), StoreError>;

    /// Opens an import. Nothing is visible before [`Import::commit`]; dropped without it, or killed,
    /// nothing has changed.
    fn begin_import(&self) -> Result<Box<dyn Import + '_>, StoreError>;
}

/// What an import changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Imported {
    /// Products that were not there before.
    pub products_added: u64,
    /// Products that were there with other values (the last row of a file wins).
    pub products_updated: u64,
    /// Products that were there exactly so.
    pub products_unchanged: u64,
    /// Events that were not there before.
    pub events_added: u64,
    /// Events whose id was there already, in the store or earlier in the same import.
    pub events_known: u64,
    /// Of the events added, those whose product is not in the catalogue.
    pub events_adrift: u64,
}

/// An import under way.
pub trait Import {
    /// Adds or replaces a product, by id.
    fn put_product(&mut self, product: Product) -> Result<(), StoreError>;
    /// Adds an event, unless its id is there.
    fn put_event(&mut self, event: Event) -> Result<(), StoreError>;
    /// Makes everything visible at once, durably.
    fn commit(self: Box<Self>) -> Result<Imported, StoreError>;
}

/// A store for both halves, as one process uses it.
pub trait DataStore: Store + Bulk {}

impl<T: Store + Bulk> DataStore for T {}
