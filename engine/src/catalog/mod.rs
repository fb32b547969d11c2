//! Products and events, and the in-memory snapshot of the catalogue that serving reads.

mod category;
#[cfg(feature = "train")]
pub mod demo;
mod event;
#[cfg(feature = "train")]
pub mod import;
mod persistent;
mod product;
mod snapshot;

pub use category::{Categories, CategoryId, path_key};
pub use event::{Event, EventKind, UserEvent};
pub use product::{Ordinal, Product, category_paths, check_id};
pub use snapshot::{Catalog, Difference, Row};
