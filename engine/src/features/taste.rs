//! Taste: how much a user cares for each category, from what they did lately.

use super::Affinity;
use super::popularity::weight;
use crate::catalog::{Catalog, CategoryId, UserEvent};
use penstock_config::policy::Ranking;
use std::collections::{HashMap, HashSet};

/// Interactions after which a user's own taste counts fully; below it popularity is blended in.
pub const WARM: usize = 5;

/// What the strongest long-term category counts beside the strongest of late: enough to be there, never enough to come
/// before it.
const LONG_TERM: f32 = 0.5;

/// A user's affinity to categories.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Taste {
    /// Strongest first; the strongest is 1.
    pub categories: Vec<(CategoryId, f32)>,
    /// Events on products that are in the catalogue.
    pub interactions: usize,
    /// Ids of products the user has bought.
    pub bought: HashSet<String>,
    /// Those of the categories that the latest events say nothing about.
    pub only_long_term: HashSet<CategoryId>,
}

impl Taste {
    /// From the user's latest events. Decays by the popularity half-life, relative to the user's own
    /// newest event: a user who was away for a year still has a taste.
    pub fn of(history: &[UserEvent], catalog: &Catalog, ranking: &Ranking) -> Self {
        let Some(newest) = history.iter().map(|event| event.at_micros).max() else {
            return Self::default();
        };
        let half_life = ranking.popularity_half_life.as_secs_f64() * 1e6;
        let mut taste = Self::default();
        let mut sums: HashMap<CategoryId, f32> = HashMap::new();
        for event in history {
            let Some(row) = catalog.ordinal(&event.product_id).and_then(|o| catalog.row(o)) else {
                continue;
            };
            taste.interactions += 1;
            if event.kind == crate::catalog::EventKind::Purchase {
                taste.bought.insert(event.product_id.clone());
            }
            let age = (newest.saturating_sub(event.at_micros)) as f64 / half_life;
            let weight = weight(&ranking.events, event.kind) * (-age).exp2() as f32;
            for category in &row.categories {
                *sums.entry(*category).or_default() += weight / row.categories.len() as f32;
            }
        }
        let most = sums.values().copied().fold(0.0, f32::max);
        if most > 0.0 {
            taste.categories = sums.into_iter().map(|(id, sum)| (id, sum / most)).collect();
            taste.categories.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        taste
    }

    /// The same with what is known of the user beyond those events. The fewer they are, the more it counts; one who
    /// was seen [`WARM`] times lately is asked first what that was about.
    pub fn behind(mut self, long_term: &Affinity, catalog: &Catalog) -> Self {
        let share = 1.0 - self.confidence();
        let strength = LONG_TERM + (1.0 - LONG_TERM) * share;
        let mut sums: HashMap<CategoryId, f32> = self.categories.drain(..).collect();
        for (path, affinity) in &long_term.categories {
            let categories = catalog.categories();
            let is_named = |id: &CategoryId| categories.path(*id).eq_ignore_ascii_case(path);
            let named = categories.find(path).into_iter().find(is_named);
            // Both are scaled to their strongest. What is the same in both is not counted twice.
            let Some(id) = named else { continue };
            let sum = sums.entry(id).or_insert_with(|| {
                self.only_long_term.insert(id);
                0.0
            });
            *sum = sum.max(strength * affinity);
        }
        self.categories = sums.into_iter().collect();
        self.categories.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let seen_before = usize::try_from(long_term.events).unwrap_or(usize::MAX);
        self.interactions = self.interactions.max(seen_before);
        self
    }

    /// How much the taste counts against general popularity, in [0, 1]: grows with each interaction.
    pub fn confidence(&self) -> f32 {
        if self.categories.is_empty() {
            return 0.0;
        }
        (self.interactions.min(WARM) as f32) / WARM as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{EventKind, Ordinal, Product};
    use penstock_config::policy::Policy;

    #[test]
    fn recent_and_strong_events_make_the_taste() {
        let mut catalog = Catalog::new(1);
        for (index, category) in ["Mugs", "Pans", "Mugs|Gifts"].into_iter().enumerate() {
            let product =
                Product { id: index.to_string(), category: category.into(), ..Product::default() };
            catalog.push(Ordinal(index as u32), &product);
        }
        let event = |product: &str, kind, days: i64| UserEvent {
            product_id: product.into(),
            kind,
            at_micros: days * 86_400_000_000,
        };
        let history = [
            event("0", EventKind::Purchase, 100),
            event("1", EventKind::View, 100),
            event("gone", EventKind::Purchase, 100),
        ];
        let taste = Taste::of(&history, &catalog, &Policy::default().ranking);
        let named: Vec<(&str, f32)> =
            taste.categories.iter().map(|(id, s)| (catalog.categories().path(*id), *s)).collect();
        assert_eq!(named, [("Mugs", 1.0), ("Pans", 1.0 / 3.0)]);
        assert_eq!((taste.interactions, taste.bought.len()), (2, 1));
        assert!((taste.confidence() - 0.4).abs() < 1e-6);
        assert!(Taste::of(&[], &catalog, &Policy::default().ranking).confidence().abs() < 1e-6);
    }

    #[test]
    fn long_term_affinity_stands_behind_what_was_done_lately() {
        let mut catalog = Catalog::new(1);
        for (index, category) in ["Mugs", "Home > Pans"].into_iter().enumerate() {
            let product =
                Product { id: index.to_string(), category: category.into(), ..Product::default() };
            catalog.push(Ordinal(index as u32), &product);
        }
        let pans = ("Home > Pans".to_owned(), 1.0);
        let gone = ("Gone".to_owned(), 0.9);
        let long_term = Affinity { categories: vec![pans, gone], events: 40 };
        let check = |clicks: usize, long_term: &Affinity, expected: &[(&str, f32)]| {
            let click = UserEvent { product_id: "0".into(), kind: EventKind::View, at_micros: 9 };
            let lately = Taste::of(&vec![click; clicks], &catalog, &Policy::default().ranking);
            let taste = lately.behind(long_term, &catalog);
            let named: Vec<(&str, f32)> = taste
                .categories
                .iter()
                .map(|(id, s)| (catalog.categories().path(*id), *s))
                .collect();
            assert_eq!(named, expected, "{clicks}");
            taste.confidence()
        };
        let path = "Home > Pans";
        // Nothing is known of lately: all that is known counts.
        assert_eq!(check(0, &long_term, &[(path, 1.0)]), 1.0);
        assert_eq!(check(1, &long_term, &[("Mugs", 1.0), (path, 0.9)]), 1.0);
        assert_eq!(check(5, &long_term, &[("Mugs", 1.0), (path, 0.5)]), 1.0);
        assert_eq!(check(50, &long_term, &[("Mugs", 1.0), (path, 0.5)]), 1.0);
        // Of who has no value, everything is as it was.
        assert!((check(2, &Affinity::default(), &[("Mugs", 1.0)]) - 0.4).abs() < 1e-6);
        assert_eq!(check(0, &Affinity::default(), &[]), 0.0);
    }
}
