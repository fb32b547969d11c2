//! The shop's own application: its servers, which of them are up, and how to reach one.

mod fault;
mod headers;
mod health;
mod peer;
mod pool;

pub use fault::{Attempt, Blame, blame, problem_of, text_of, unavailable};
pub use headers::{is_websocket, named_by_connection, to_client, to_upstream};
pub use health::Prober;
pub use peer::{Body, peer};
pub use pool::{Member, MemberStatus, Picked, Pool, Probe};
