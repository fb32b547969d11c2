//! Settings of Penstock.
//!
//! Two kinds, kept apart: [`bootstrap`] is read once when a process starts (addresses, folders);
//! [`policy`] is everything an operator may change while traffic flows. Policy files are watched
//! ([`watch`]), parsed, cross-checked and swapped in as one immutable [`policy::Policy`];
//! [`publish`] writes them, all or none.
//!
//! This crate knows files. It knows nothing of HTTP or ranking.

pub mod bootstrap;
pub mod check;
pub mod clock;
pub mod disk;
pub mod keys;
pub mod lists;
pub mod network;
pub mod policy;
pub mod problem;
pub mod publish;
mod read;
pub mod units;
pub mod watch;
