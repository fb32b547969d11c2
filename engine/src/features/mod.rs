//! Features: what is known of a product beside how well it matches.
//!
//! Fetched for all candidates of a request at once, never one by one; ranking only reads them.

mod batch;
mod freshness;
mod popularity;
mod registry;
mod taste;

pub use batch::FeatureBatch;
pub use freshness::freshness;
pub use popularity::{Popularity, PopularityBuilder};
pub use registry::{FEATURES, FeatureInfo};
pub use taste::Taste;
