//! What the outside sees of requests: access log, metrics, spans, logs. All made from the
//! [decision record](crate::decision::Decision); none may hold a request up.

pub mod access;
pub mod caches;
mod database;
pub mod layers;
pub mod limits;
mod load;
pub mod logs;
pub mod metrics;
mod process;
pub mod spans;
mod spool;
pub mod traceparent;

pub use access::AccessLog;
pub use metrics::Metrics;
pub use spans::Spans;
pub use spool::SpoolFigures;
