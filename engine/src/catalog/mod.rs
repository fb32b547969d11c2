//! Products and events, and the in-memory snapshot of the catalogue that serving reads.

mod event;
mod product;

pub use event::{Event, EventKind, UserEvent};
pub use product::{Ordinal, Product};
