//! Everything that can be shown from outside, against the real binaries.
//!
//! One module per promise; one process per test. A test that needs `../shared` says so and passes
//! without it.

#![allow(clippy::unwrap_used)]

mod abuse;
mod bad_input;
mod caches;
mod commands;
mod database;
mod degradation;
mod durability;
mod events;
mod fleet;
mod fuzz;
mod harness;
mod import;
mod jobs;
mod keys;
mod ladder;
mod lifecycle;
mod limits;
mod lists;
mod ops;
mod pages;
mod pass_through;
mod products;
mod recommend;
mod reload;
mod search;
mod sets;
mod smuggling;
mod upstreams;

use penstock_tests::{Item, Penstock};

/// The fields tests look at.
const FIELDS: &str = "fields=name,category,brand,price";

/// The hundred most popular products of the demo shop with all their fields.
async fn popular(penstock: &Penstock) -> Vec<Item> {
    let items = penstock.items(&format!("/popular?k=100&{FIELDS}")).await;
    assert_eq!(items.len(), 100);
    items
}
