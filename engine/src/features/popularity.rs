//! Popularity: time-decayed weight of what users did with a product.
//!
//! Every event adds its kind's weight, halved for each half-life between it and the newest event.
//! Decay is relative to the newest event and not to the clock, so a catalogue without traffic keeps
//! its order instead of fading to zero. Sums are kept as mantissa and base-2 exponent per product
//! (forward decay: Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009), so that no span of time
//! underflows and events may come in any order.

use crate::catalog::{Catalog, EventKind, Ordinal};
use penstock_config::policy::EventWeights;
use std::time::Duration;

const MICROS: f64 = 1e6;

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    mantissa: f64,
    exponent: f64,
}

/// Collects events.
#[derive(Debug)]
pub struct PopularityBuilder {
    sums: Vec<Sum>,
    weights: EventWeights,
    half_life_micros: f64,
    newest: f64,
}

impl PopularityBuilder {
    /// For products with ordinals below `columns`.
    pub fn new(columns: usize, weights: EventWeights, half_life: Duration) -> Self {
        Self {
            sums: vec![Sum::default(); columns],
            weights,
            half_life_micros: half_life.as_secs_f64() * MICROS,
            newest: f64::NEG_INFINITY,
        }
    }

    /// Adds one event; products outside the columns are ignored.
    pub fn add(&mut self, ordinal: Ordinal, kind: EventKind, at_micros: i64) {
        let Some(sum) = self.sums.get_mut(ordinal.index()) else {
            return;
        };
        let weight = f64::from(weight(&self.weights, kind));
        let exponent = at_micros as f64 / self.half_life_micros;
        self.newest = self.newest.max(exponent);
        if sum.mantissa == 0.0 {
            *sum = Sum { mantissa: weight, exponent };
        } else if exponent > sum.exponent {
            sum.mantissa = sum.mantissa * (sum.exponent - exponent).exp2() + weight;
            sum.exponent = exponent;
        } else {
            sum.mantissa += weight * (exponent - sum.exponent).exp2();
        }
    }

    /// Takes what was summed up elsewhere: `log2` is the binary logarithm of the product's weight, decayed forward
    /// from 1970 (an event at `t` counts its weight times `2^(t / half_life)`).
    pub fn set(&mut self, ordinal: Ordinal, log2: f64) {
        if let Some(sum) = self.sums.get_mut(ordinal.index()) {
            *sum = Sum { mantissa: 1.0, exponent: log2 };
        }
    }

    /// The moment of the newest event there was, in half-lives since 1970.
    pub fn as_of(&mut self, half_lives: f64) {
        self.newest = half_lives;
    }

    /// The scores. Products nobody has touched are ordered by the shop's own figure, below all that
    /// somebody has.
    pub fn finish(self, catalog: &Catalog) -> Popularity {
        let raw: Vec<f32> = self
            .sums
            .iter()
            .map(|sum| (sum.mantissa * (sum.exponent - self.newest).exp2()) as f32)
            .map(|raw| if raw.is_finite() { raw } else { 0.0 })
            .collect();
        Popularity::scaled(raw, catalog)
    }
}

/// What an event of this kind counts.
pub(crate) fn weight(weights: &EventWeights, kind: EventKind) -> f32 {
    match kind {
        EventKind::View => weights.view,
        EventKind::AddToCart => weights.add_to_cart,
        EventKind::Purchase => weights.purchase,
    }
}

/// `ln(1 + x) / ln(1 + most)`: sales are heavy-tailed, and on a linear scale one bestseller would
/// flatten everything else to zero.
fn log_share(x: f32, most: f32) -> f32 {
    if most > 0.0 { (x.ln_1p() / most.ln_1p()).clamp(0.0, 1.0) } else { 0.0 }
}

/// Popularity of every product.
#[derive(Debug, Default)]
pub struct Popularity {
    scores: Vec<f32>,
    raw: Vec<f32>,
    /// Score of the least that somebody has touched.
    ceiling: f32,
    /// The largest figure of the shop's own.
    top_figure: f64,
}

impl Popularity {
    fn scaled(raw: Vec<f32>, catalog: &Catalog) -> Self {
        let most = raw.iter().copied().fold(0.0, f32::max);
        let least = raw.iter().copied().filter(|raw| *raw > 0.0).fold(f32::INFINITY, f32::min);
        let ceiling = if most > 0.0 { log_share(least, most) } else { 1.0 };
        let figures = catalog.iter().filter_map(|(_, row)| row.popularity);
        let top_figure = figures.fold(0.0, f64::max);
        let scores = raw.iter().map(|raw| log_share(*raw, most)).collect();
        let mut all = Self { scores, raw, ceiling, top_figure };
        for (ordinal, row) in catalog.iter() {
            if let Some(figure) = row.popularity
                && all.raw[ordinal.index()] == 0.0
            {
                all.scores[ordinal.index()] = all.of_figure(figure);
            }
        }
        all
    }

    fn of_figure(&self, figure: f64) -> f32 {
        self.ceiling * log_share(figure as f32, self.top_figure as f32)
    }

    /// Popularity of `catalog`, in which these products are others than in the one this was made of. What users did
    /// is not read again: with a product that is new, earlier events of its id count from the next time that all are
    /// read, and the scale stays that of the last time.
    pub fn after(&self, catalog: &Catalog, changed: impl IntoIterator<Item = Ordinal>) -> Self {
        let Self { ceiling, top_figure, .. } = *self;
        let mut after =
            Self { scores: self.scores.clone(), raw: self.raw.clone(), ceiling, top_figure };
        after.scores.resize(catalog.columns(), 0.0);
        after.raw.resize(catalog.columns(), 0.0);
        let mut outgrown = false;
        for ordinal in changed.into_iter().filter(|o| o.index() < catalog.columns()) {
            let at = ordinal.index();
            let row = catalog.row(ordinal);
            if row.is_none() {
                after.raw[at] = 0.0;
            }
            if after.raw[at] == 0.0 {
                let figure = row.and_then(|row| row.popularity).unwrap_or(0.0);
                outgrown |= figure > top_figure;
                after.scores[at] = after.of_figure(figure);
            }
        }
        // Another largest figure is another scale for all that nobody has touched.
        if outgrown { Self::scaled(after.raw, catalog) } else { after }
    }

    /// In [0, 1]; 0 for a product nobody knows.
    pub fn score(&self, ordinal: Ordinal) -> f32 {
        self.scores.get(ordinal.index()).copied().unwrap_or(0.0)
    }

    /// Decayed event weight as of the newest event.
    pub fn raw(&self, ordinal: Ordinal) -> f32 {
        self.raw.get(ordinal.index()).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Product;

    const DAY: i64 = 86_400_000_000;

    fn catalog(figures: &[Option<f64>]) -> Catalog {
        let mut catalog = Catalog::new(1);
        for (index, popularity) in figures.iter().enumerate() {
            let product =
                Product { id: index.to_string(), popularity: *popularity, ..Product::default() };
            catalog.push(Ordinal(index as u32), &product);
        }
        catalog
    }

    fn builder(columns: usize) -> PopularityBuilder {
        let weights = EventWeights { view: 1.0, add_to_cart: 2.0, purchase: 3.0 };
        PopularityBuilder::new(columns, weights, Duration::from_secs(10 * 86_400))
    }

    #[test]
    fn weights_decay_from_the_newest_event_in_any_order() {
        let events = [
            (0, EventKind::Purchase, 100 * DAY),
            (1, EventKind::View, 90 * DAY),
            (1, EventKind::View, 80 * DAY),
            (2, EventKind::AddToCart, 100 * DAY),
        ];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut builder = builder(4);
            for index in order {
                let (ordinal, kind, at) = events[index];
                builder.add(Ordinal(ordinal), kind, at);
            }
            let popularity = builder.finish(&catalog(&[None; 4]));
            let raw: Vec<f32> = (0..4).map(|i| popularity.raw(Ordinal(i))).collect();
            for (got, expected) in raw.iter().zip([3.0, 0.75, 2.0, 0.0]) {
                assert!((got - expected).abs() < 1e-5, "{raw:?}");
            }
            assert!((popularity.score(Ordinal(0)) - 1.0).abs() < 1e-6);
            assert!(popularity.score(Ordinal(3)).abs() < 1e-6);
        }
    }

    #[test]
    fn what_was_summed_up_elsewhere_gives_the_same() {
        let half_life = 10.0 * DAY as f64;
        let (mut here, mut elsewhere) = (builder(3), builder(3));
        for (ordinal, at) in [(0, 100 * DAY), (1, 90 * DAY)] {
            here.add(Ordinal(ordinal), EventKind::Purchase, at);
            elsewhere.set(Ordinal(ordinal), at as f64 / half_life + 3_f64.log2());
        }
        elsewhere.set(Ordinal(9), 1.0);
        elsewhere.as_of(10.0);
        let figures = catalog(&[None, None, Some(4.0)]);
        let (here, elsewhere) = (here.finish(&figures), elsewhere.finish(&figures));
        for ordinal in (0..3).map(Ordinal) {
            assert!((here.raw(ordinal) - elsewhere.raw(ordinal)).abs() < 1e-6);
            assert!((here.score(ordinal) - elsewhere.score(ordinal)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_century_neither_underflows_the_newest_nor_overflows_the_oldest() {
        let mut builder = builder(2);
        builder.add(Ordinal(0), EventKind::View, 0);
        builder.add(Ordinal(1), EventKind::View, 36_500 * DAY);
        builder.add(Ordinal(0), EventKind::View, 36_500 * DAY);
        let popularity = builder.finish(&catalog(&[None; 2]));
        assert!((popularity.raw(Ordinal(0)) - 1.0).abs() < 1e-6);
        assert!((popularity.score(Ordinal(1)) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_shops_figure_orders_untouched_products_below_touched_ones() {
        let mut builder = builder(3);
        builder.add(Ordinal(2), EventKind::View, DAY);
        builder.add(Ordinal(2), EventKind::View, DAY);
        let popularity = builder.finish(&catalog(&[Some(10.0), Some(1000.0), None]));
        let scores: Vec<f32> = (0..3).map(|i| popularity.score(Ordinal(i))).collect();
        assert!(scores[0] > 0.0 && scores[0] < scores[1] && scores[1] <= scores[2], "{scores:?}");
    }

    #[test]
    fn after_changes_it_is_what_it_would_be_made_anew() {
        let figures = [Some(10.0), Some(1000.0), None, Some(50.0), Some(5.0)];
        let scores = |popularity: &Popularity, count: u32| -> Vec<f32> {
            (0..count).map(|i| popularity.score(Ordinal(i))).collect()
        };
        let made = |figures: &[Option<f64>]| {
            let mut builder = builder(figures.len());
            builder.add(Ordinal(2), EventKind::Purchase, DAY);
            builder.add(Ordinal(3), EventKind::View, DAY);
            builder.finish(&catalog(figures))
        };
        let check = |at: usize, figure: Option<f64>| {
            let mut others = figures.to_vec();
            others.resize(others.len().max(at + 1), None);
            others[at] = figure;
            let after = made(&figures).after(&catalog(&others), [Ordinal(at as u32)]);
            assert_eq!(scores(&after, 6), scores(&made(&others), 6), "{at} {figure:?}");
        };
        check(0, Some(500.0));
        check(0, None);
        check(0, Some(5_000.0));
        check(3, Some(70.0));
        check(5, Some(7.0));
        check(5, Some(9_000.0));
    }
}
