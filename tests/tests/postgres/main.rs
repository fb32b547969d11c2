//! The store over PostgreSQL, as requests and jobs use it, with real servers that are killed; and the servers
//! themselves, as the tests start them.

#![allow(clippy::unwrap_used)]

mod contract;
mod jobs;
mod plans;
mod pool;
mod replicas;
mod schema;
mod server;
mod stores;
