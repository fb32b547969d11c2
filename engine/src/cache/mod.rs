//! What is remembered: one cache type for everything, with two tiers.
//!
//! The first tier is memory of this process, bounded in bytes; the second is Redis, where there is one
//! ([`Tiered`]). Whether something remembered may still be used is decided when it is read, from two things it
//! carries: how long it lives ([`Entry`]), and what was known to have changed when the work on it began
//! ([`Mark`]). A change is a note in the [`Ledger`]; nothing is searched for and deleted, and an answer that was
//! under way while its products changed is known for what it is. Instances tell each other of changes through a
//! log in Redis ([`Log`]).
//!
//! Keys carry what was remembered was made with (weights, index, store), so another version asks for other keys.
//! Above the tiers, [`Flights`] make one computation of what many ask for at the same time.

mod codec;
mod entry;
mod flight;
mod key;
mod kind;
mod ledger;
mod log;
mod marks;
mod observe;
mod pattern;
mod tiered;

#[cfg(test)]
mod tests;

pub use codec::{Corrupt, decode, encode};
pub use entry::{Entry, Freshness, Lives, PRICES, Tags};
pub use flight::{Arrival, Boarding, Flights, Joined, Leader};
pub use key::{Key, Versions, digest};
pub use kind::{CacheKind, Tier};
pub use ledger::{Change, Known, Ledger, Mark, Reason, What};
pub use log::{Log, LogStatus};
pub use observe::{Observe, Operation, Unobserved};
pub use pattern::Pattern;
pub use tiered::{Cached, Found, Hit, Tiered};
