//! The control plane of Penstock: what operators run.
//!
//! Knows the engine and the configuration; knows nothing of the proxy. Each command is one file in
//! [`jobs`].

pub mod evaluate;
pub mod jobs;
