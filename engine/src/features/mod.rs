//! Features: what is known of a product beside how well it matches, and of a user.
//!
//! Fetched for all candidates of a request at once, never one by one; ranking only reads them. What there is says the
//! registry.

mod affinity;
mod batch;
mod freshness;
mod popularity;
mod registry;
mod taste;

pub use affinity::{AFFINITY, AFFINITY_HALF_LIFE, Affinity, AffinityBuilder};
pub use batch::FeatureBatch;
pub use freshness::freshness;
#[cfg(feature = "train")]
pub(crate) use popularity::weight;
pub use popularity::{Popularity, PopularityBuilder};
pub use registry::{Entity, FEATURES, FeatureInfo, Limits, Lineage, MadeBy, feature};
pub use taste::Taste;
