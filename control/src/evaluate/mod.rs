//! Measuring relevance and latency on a catalogue with judged queries.
//!
//! Everything is the code that serves: the import, the index build, the retrievers and, for fusion and
//! for the ranking formula, whole searches by the engine. Only the policy differs: deadlines are
//! lifted, so that a busy machine changes the figures of latency and nothing else.

pub mod judged;
pub mod metrics;
pub mod report;
mod rows;
mod shop;

pub use judged::Query;
pub use report::{Build, Report, Row};
pub use rows::{Measure, Settings, fusion_name};
pub use shop::Shop;
