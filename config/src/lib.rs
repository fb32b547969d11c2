//! Settings of Penstock.
//!
//! Two kinds, kept apart: [`bootstrap`] is read once when a process starts (addresses, folders);
//! [`policy`] is everything an operator may change while traffic flows. Policy files are watched,
//! parsed, cross-checked and swapped in as one immutable [`policy::Policy`].
//!
//! This crate knows files. It knows nothing of HTTP or ranking.

pub mod clock;
pub mod policy;
