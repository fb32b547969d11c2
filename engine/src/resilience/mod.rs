//! What keeps an answer coming when a part is missing.

pub mod breaker;
mod mode;

pub use breaker::{Breaker, Permit};
pub use mode::Mode;
