//! How much an interaction says. Training and fold-in measure with the same rule, which is part of the model.

use crate::catalog::EventKind;
use serde::{Deserialize, Serialize};

const MICROS: f64 = 1e6;

/// What one event of each kind adds to the strength of a user's interaction with a product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strengths {
    /// A look at the product's page; at least 0, as the others, and not all 0.
    pub view: f32,
    /// Into the cart.
    pub add_to_cart: f32,
    /// Bought.
    pub purchase: f32,
    /// After so many seconds an event counts half; `None`: it never counts less.
    pub half_life_seconds: Option<u64>,
}

impl Strengths {
    /// What an event adds that was `age_micros` before the moment that is asked for; later ones count in full.
    pub fn of(&self, kind: EventKind, age_micros: i64) -> f32 {
        let weight = match kind {
            EventKind::View => self.view,
            EventKind::AddToCart => self.add_to_cart,
            EventKind::Purchase => self.purchase,
        };
        match self.half_life_seconds {
            Some(seconds) if age_micros > 0 => {
                let half_lives = age_micros as f64 / MICROS / seconds.max(1) as f64;
                weight * (-half_lives).exp2() as f32
            }
            _ => weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_age_decide() {
        let seconds = 1_000_000;
        let plain =
            Strengths { view: 1.0, add_to_cart: 2.0, purchase: 3.0, half_life_seconds: None };
        let decaying = Strengths { half_life_seconds: Some(10), ..plain };
        let check = |strengths: &Strengths, kind, age, expected: f32| {
            assert!((strengths.of(kind, age) - expected).abs() < 1e-6, "{kind:?} {age}");
        };
        check(&plain, EventKind::View, 1_000 * seconds, 1.0);
        check(&plain, EventKind::AddToCart, 0, 2.0);
        check(&decaying, EventKind::Purchase, 10 * seconds, 1.5);
        check(&decaying, EventKind::Purchase, 20 * seconds, 0.75);
        check(&decaying, EventKind::Purchase, -20 * seconds, 3.0);
    }
}
