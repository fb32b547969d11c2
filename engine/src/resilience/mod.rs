//! What keeps an answer coming when a part is missing.

mod mode;

pub use mode::Mode;
