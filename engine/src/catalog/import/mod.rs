//! Reads products and events from files into the store.
//!
//! CSV (RFC 4180), JSON Lines and Parquet, each plain or gzipped. Rows stream from the file into an
//! import session of the store: a million rows take no more memory than a thousand, and nothing is
//! visible before the last row was read.
//!
//! - **Columns** are found by name: the field's own name, or one of its usual aliases
//!   ([`columns`]); [`Mapping`] names others.
//! - **Bad rows** (a price that is no number, a product without a name) are reported with file and
//!   line and skipped, up to [`MaxErrors`]; then the import stops and nothing is imported. What
//!   makes the rest of a file unreadable (a torn gzip, a missing column) stops at once.
//! - **Again**: importing the same files changes nothing. A product's last row wins. An event
//!   without `event_id` gets one derived from user, product, kind and time.
//! - **Without a timestamp** events keep the order of their rows: row *n* is dated *n* seconds after
//!   2000-01-01, and its number is part of the derived id.
//! - **Published sets** ([`Layout`]) are read as they are published: what is a product or an event
//!   there is put together from several files.

mod budget;
pub mod columns;
mod error;
mod event;
mod layout;
mod product;
mod read;
mod run;
pub mod single;
mod source;
#[cfg(test)]
mod tests;
mod timestamp;

pub use budget::MaxErrors;
pub use columns::{Entity, Mapping};
pub use error::{BadRow, ImportError, Place};
pub use event::{EventRules, Meaning};
pub use layout::Layout;
pub use run::{FileSummary, Plan, Progress, Summary, run};
pub use source::{Format, Source};
pub use timestamp::parse_micros;
