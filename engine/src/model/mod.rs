//! Models and index versions: what is built by the control plane, published as one folder, and
//! loaded by checksum.
//!
//! [`embedding`] turns text into vectors. [`manifest`] describes an index version and proves that
//! its files are whole; [`versions`] publishes, lists and rolls back. Nothing here trains: that is
//! `train`, behind a cargo feature.

pub mod embedding;
pub mod manifest;
pub mod texts;
pub mod versions;

mod durable;
