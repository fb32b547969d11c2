//! Learning who likes what: from interactions to factors and neighbours, and the proof that they are any good.

mod matrix;

pub use matrix::Matrix;
