//! The ranking engine of Penstock.
//!
//! Knows products, users and queries; knows nothing of HTTP or Pingora. Serving code never trains,
//! ranking code never does I/O: what a request needs is fetched first, [`rank`] is a pure function.

pub mod cache;
pub mod catalog;
pub mod collaborative;
pub mod features;
#[cfg(feature = "train")]
pub mod jobs;
pub mod model;
pub mod query;
pub mod rank;
pub mod redis;
pub mod resilience;
pub mod retrieve;
pub mod serve;
pub mod store;
pub mod trace;
#[cfg(feature = "train")]
pub mod train;
