//! Long-term affinity: how much a user has cared for each category, over everything they did.
//!
//! Made once a day by the job of its name and read at request time as what stands behind a user's latest events. It
//! is bounded: a user with a million events has as many categories in it as anybody may have.

use super::popularity::weight;
use crate::catalog::{Catalog, UserEvent};
use penstock_config::policy::EventWeights;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// Its name in the registry, in the store and in keys of caches; the job has the same.
pub const AFFINITY: &str = "user_category_affinity";

/// What was done so long before the user's latest event counts half: a season, since this is for what lasts.
pub const AFFINITY_HALF_LIFE: Duration = Duration::from_hours(90 * 24);

/// Categories of one user at most, the strongest.
const CATEGORIES: usize = 20;

/// See the module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Affinity {
    /// Paths of categories, the strongest first; the strongest is 1.
    pub categories: Vec<(String, f32)>,
    /// Events it was made from, on products that were in the catalogue then.
    pub events: u64,
}

/// Collects one user's events, in any order.
#[derive(Debug)]
pub struct AffinityBuilder<'a> {
    catalog: &'a Catalog,
    weights: EventWeights,
    /// Per category: mantissa, and the moment in half-lives since 1970 that it is of.
    sums: HashMap<&'a str, (f64, f64)>,
    events: u64,
}

impl<'a> AffinityBuilder<'a> {
    /// Of products of this catalogue; others are ignored.
    pub fn new(catalog: &'a Catalog, weights: EventWeights) -> Self {
        Self { catalog, weights, sums: HashMap::new(), events: 0 }
    }

    /// Adds one event.
    pub fn add(&mut self, event: &UserEvent) {
        let ordinal = self.catalog.ordinal(&event.product_id);
        let Some(row) = ordinal.and_then(|ordinal| self.catalog.row(ordinal)) else { return };
        self.events += 1;
        let at = event.at_micros as f64 / 1e6 / AFFINITY_HALF_LIFE.as_secs_f64();
        let weight = f64::from(weight(&self.weights, event.kind)) / row.categories.len() as f64;
        for category in &row.categories {
            let path = self.catalog.categories().path(*category);
            let (sum, of) = self.sums.entry(path).or_insert((0.0, at));
            let latest = of.max(at);
            *sum = *sum * (*of - latest).exp2() + weight * (at - latest).exp2();
            *of = latest;
        }
    }

    /// What they add up to; of equal ones the first by name.
    pub fn finish(self) -> Affinity {
        let latest = self.sums.values().map(|(_, of)| *of).fold(f64::NEG_INFINITY, f64::max);
        let now = |(sum, of): (f64, f64)| sum * (of - latest).exp2();
        let mut sums: Vec<(&str, f64)> =
            self.sums.into_iter().map(|(path, sum)| (path, now(sum))).collect();
        sums.retain(|(_, sum)| *sum > 0.0);
        sums.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        sums.truncate(CATEGORIES);
        let most = sums.first().map_or(1.0, |(_, sum)| *sum);
        let share = |(path, sum): (&str, f64)| (path.to_owned(), (sum / most) as f32);
        Affinity { categories: sums.into_iter().map(share).collect(), events: self.events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{EventKind, Ordinal, Product};

    const DAY: i64 = 86_400_000_000;

    fn catalog(categories: usize) -> Catalog {
        let mut catalog = Catalog::new(1);
        for n in 0..categories {
            let product =
                Product { id: n.to_string(), category: format!("C{n:02}"), ..Product::default() };
            catalog.push(Ordinal(n as u32), &product);
        }
        catalog
    }

    fn of(catalog: &Catalog, events: &[(usize, i64)]) -> Affinity {
        let weights = EventWeights { view: 1.0, add_to_cart: 3.0, purchase: 5.0 };
        let mut builder = AffinityBuilder::new(catalog, weights);
        for (product, at_micros) in events {
            let product_id = product.to_string();
            builder.add(&UserEvent { product_id, kind: EventKind::View, at_micros: *at_micros });
        }
        builder.finish()
    }

    #[test]
    fn what_is_a_season_older_counts_half_in_any_order() {
        let catalog = catalog(3);
        let expected = Affinity {
            categories: vec![("C01".into(), 1.0), ("C00".into(), 0.5), ("C02".into(), 0.25)],
            events: 3,
        };
        let events = [(0, 90 * DAY), (1, 180 * DAY), (2, 0), (99, 500 * DAY)];
        assert_eq!(of(&catalog, &events), expected);
        let turned: Vec<_> = events.into_iter().rev().collect();
        assert_eq!(of(&catalog, &turned), expected);
        assert_eq!(of(&catalog, &[]), Affinity::default());
    }

    #[test]
    fn it_is_bounded_and_what_is_written_is_read() {
        let catalog = catalog(50);
        let events: Vec<_> = (0..50).map(|n| (n, n as i64 * DAY)).collect();
        let affinity = of(&catalog, &events);
        assert_eq!((affinity.categories.len(), affinity.events), (CATEGORIES, 50));
        assert_eq!(affinity.categories[0], ("C49".into(), 1.0));
        let json = serde_json::to_value(&affinity).unwrap();
        assert_eq!(serde_json::from_value::<Affinity>(json).unwrap(), affinity);
        let foreign: Affinity = serde_json::from_str("{\"later\": 1}").unwrap();
        assert_eq!(foreign, Affinity::default());
    }
}
