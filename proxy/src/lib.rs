//! The sidecar: a Pingora reverse proxy that answers product search and recommendations from the
//! ranking engine in its own process, and passes everything else through to the shop.
//!
//! Knows HTTP and who may pass; knows nothing of ranking. A request's way is in [`gateway`]; what
//! was decided on it is in its [`decision`] record.

pub mod access;
pub mod admission;
pub mod app;
pub mod body;
pub mod breakers;
pub mod context;
pub mod decision;
pub mod drain;
pub mod engine;
pub mod fleet;
pub mod gateway;
pub mod identity;
pub mod ops;
pub mod pages;
pub mod params;
pub mod respond;
pub mod results;
pub mod route;
pub mod run;
pub mod server;
pub mod telemetry;
pub mod upstream;
