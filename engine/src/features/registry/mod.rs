//! The features there are, as data: what each means, where it comes from and how good its values must be.
//!
//! Whoever adds a feature adds it to the list ([`list`]) first; `explain`, the command line and the operations
//! listener show it from there, and the checks go by it.

mod list;

pub use list::FEATURES;

/// Of what a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// A product.
    Product,
    /// A user.
    User,
    /// A user and a product together.
    UserAndProduct,
}

impl Entity {
    /// As it is written in tables, files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::User => "user",
            Self::UserAndProduct => "user_and_product",
        }
    }
}

/// Where the values of a feature are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// By the batch job of this name, and stored.
    Job(&'static str),
    /// In the request that reads it; nothing is stored.
    Request,
    /// By the shop; it is in the catalogue.
    Shop,
}

/// What a feature is made from and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Lineage {
    /// Columns of the store's tables.
    pub columns: &'static [&'static str],
    /// Other features.
    pub features: &'static [&'static str],
    /// Keys of the policy that decide what its values mean.
    pub policy: &'static [&'static str],
    /// Who makes it.
    pub made_by: MadeBy,
}

/// What is no cause for worry; `penstock-control features check` goes by it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Limits {
    /// Share of entities without a value, in [0, 1].
    pub most_nulls: f64,
    /// Least and greatest number; `None`: it is no number, or any may be right.
    pub range: Option<(f64, f64)>,
}

/// What one feature is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct FeatureInfo {
    /// As in `explain`, in the store and in snapshots.
    pub name: &'static str,
    /// Of what.
    pub entity: Entity,
    /// Type of one value: `f32`, `f64`, `text`, `timestamp`, `json`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Unit of one value, or what its parts mean.
    pub unit: &'static str,
    /// Where it comes from, in words.
    pub source: &'static str,
    /// Grows when its meaning changes.
    pub version: u32,
    /// How old stored values may be, in seconds; 0: they are made in the request.
    pub staleness_seconds: u32,
    /// What is used where there is no value.
    pub default: &'static str,
    /// The part of Penstock that answers for it.
    pub owner: &'static str,
    /// What it is made from.
    pub lineage: Lineage,
    /// What is checked.
    pub limits: Limits,
}

impl FeatureInfo {
    /// The batch job that makes it, if one does.
    pub fn job(&self) -> Option<&'static str> {
        match self.lineage.made_by {
            MadeBy::Job(name) => Some(name),
            MadeBy::Request | MadeBy::Shop => None,
        }
    }
}

/// The feature of this name.
pub fn feature(name: &str) -> Option<&'static FeatureInfo> {
    FEATURES.iter().find(|feature| feature.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::Parts;
    use penstock_config::policy::Weights;

    #[test]
    fn what_ranking_and_explain_name_is_in_the_registry() {
        let parts = serde_json::to_value(Parts::default()).unwrap();
        let weights = Weights { search: 1.0, cf: 1.0, popularity: 1.0, freshness: 1.0 };
        let weights = serde_json::to_value(weights).unwrap();
        for named in [parts, weights] {
            for name in named.as_object().unwrap().keys() {
                assert!(feature(name).is_some(), "{name} is not in the registry");
            }
        }
        for name in ["taste", crate::features::AFFINITY] {
            assert!(feature(name).is_some(), "{name} is not in the registry");
        }
    }

    #[test]
    fn what_is_in_the_registry_makes_sense() {
        for (at, info) in FEATURES.iter().enumerate() {
            let name = info.name;
            assert!(FEATURES[..at].iter().all(|other| other.name != name), "{name} is there twice");
            assert!(info.version >= 1, "{name}");
            assert!((0.0..=1.0).contains(&info.limits.most_nulls), "{name}");
            assert_eq!(info.job().is_some(), info.staleness_seconds > 0, "{name}");
            for text in [info.kind, info.unit, info.source, info.default, info.owner] {
                assert!(!text.is_empty(), "{name}");
            }
            let lineage = &info.lineage;
            let parents = lineage.columns.len() + lineage.features.len();
            assert!(parents > 0, "{name} is made from nothing");
            for parent in lineage.features {
                assert!(feature(parent).is_some(), "{name} is made from {parent}");
            }
        }
    }
}
