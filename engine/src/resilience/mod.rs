//! What keeps an answer coming when a part is missing, or when there is more to do than can be done.

pub mod breaker;
pub mod ladder;
pub mod load;
mod mode;

pub use breaker::{Breaker, Permit};
pub use load::Load;
pub use mode::{AtMost, Mode};
