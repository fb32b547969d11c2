//! Everything that can be shown from outside, against the real binaries.
//!
//! One module per promise; one process per test. A test that needs `../shared` says so and passes
//! without it.

#![allow(clippy::unwrap_used)]

mod harness;
