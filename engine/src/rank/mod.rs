//! Ranking: a pure function from candidates and features to an order.
//!
//! `final = w_search·search + w_cf·cf + w_popularity·popularity + w_freshness·freshness`, every part
//! in [0, 1], weights global or of the product's nearest category that has its own. Ties break by
//! product id, so the same inputs always give the same order.

mod formula;
mod fuse;

pub use formula::{Parts, Ranked, WeightsFrom, rank, weights_for};
pub use fuse::{Found, Match, fuse, merge};
