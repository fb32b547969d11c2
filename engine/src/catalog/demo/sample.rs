//! Drawing from distributions.

use rand::Rng;

/// A standard normal number (Box and Muller, 1958).
pub(super) fn normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

/// One of a list that is not empty.
pub(super) fn one<'a, T>(random: &mut impl Rng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}

/// Positions drawn in proportion to weights.
#[derive(Debug)]
pub(super) struct Weighted {
    sums: Vec<f64>,
}

impl Weighted {
    /// Weights are at least 0; at least one is above.
    pub(super) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// Zipf's law over `count` positions: the n-th weighs 1 / n^exponent.
    pub(super) fn zipf(count: usize, exponent: f64) -> Self {
        Self::new((1..=count).map(|rank| (rank as f64).powf(-exponent)))
    }

    pub(super) fn draw(&self, random: &mut impl Rng) -> usize {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let at = random.random::<f64>() * total;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len().saturating_sub(1))
    }
}
