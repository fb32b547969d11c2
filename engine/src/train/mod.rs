//! What the control plane does and the sidecar must not: learning embeddings, building indexes.

pub mod collaborative;
pub mod index;
pub mod lsa;
pub mod svd;
