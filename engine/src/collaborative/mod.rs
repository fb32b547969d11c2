//! Collaborative filtering, as far as serving needs it: factors of products and users, the fold-in of a user's latest
//! events, and lists of neighbours of products.
//!
//! Pure functions of values: nothing here reads files, learns, or knows of the catalogue. A position is a product's or
//! a user's row in the model at hand, which is not its number in the store.

mod factors;
mod fold_in;
mod neighbours;
mod objective;
mod solve;
mod strength;
mod trained;
mod wide;

pub use factors::Factors;
pub use fold_in::{FoldIn, Prior};
pub use neighbours::Neighbours;
pub use objective::Objective;
pub use solve::solve;
pub use strength::Strengths;
pub use trained::{Rules, Trained};
pub use wide::{add_outer, add_scaled, dot, wide};
