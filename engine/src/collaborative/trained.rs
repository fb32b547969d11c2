//! What training gives, and a model version holds.

use super::{Factors, Neighbours, Objective, Strengths};
use serde::{Deserialize, Serialize};

/// How a model was made, as far as serving has to do the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What ALS minimised.
    pub objective: Objective,
    /// What an event counts.
    pub strengths: Strengths,
    /// Products of a user, on average: what ridges are relative to.
    pub average: f32,
    /// Share of the neighbours' score in the blend with that of the factors, in [0, 1]: the best of what was tried on
    /// interactions that were held out.
    pub blend: f32,
}

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// See there.
    pub rules: Rules,
    /// Product ids, by position; each once.
    pub items: Vec<String>,
    /// Users of each product.
    pub item_users: Vec<u32>,
    /// A row for each product.
    pub item_factors: Factors,
    /// User ids, by position; each once.
    pub users: Vec<String>,
    /// Products of each user.
    pub user_items: Vec<u32>,
    /// A row for each user.
    pub user_factors: Factors,
    /// A line for each product.
    pub neighbours: Neighbours,
}
