//! How good an order is, against what people judged.
//!
//! All figures are per query and in [0, 1], 1 best; a table shows their means. Products nobody judged
//! gain nothing, which makes every figure a lower bound: a good product that nobody looked at costs as
//! much as a bad one.

/// What a grade is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// The grade itself (Järvelin and Kekäläinen, TOIS 2002). The default: on a scale of 0 to 6 the
    /// other would make a 6 worth more than four times a 4.
    Linear,
    /// `2^grade − 1` (Burges et al., ICML 2005).
    Exponential,
}

impl Gain {
    fn of(self, grade: u32) -> f64 {
        match self {
            Self::Linear => f64::from(grade),
            Self::Exponential => f64::from(grade).exp2() - 1.0,
        }
    }
}

/// nDCG at `k`: gains discounted by `log2(rank + 1)` and added over the first `k` ranks, divided by the
/// same of the best order of all judged products. `listed` holds the grade of each product in the
/// list, 0 for an unjudged one; `judged` every grade of the query. 0 when nothing judged gains anything.
pub fn ndcg(listed: &[u32], judged: &[u32], k: usize, gain: Gain) -> f64 {
    let mut best = judged.to_vec();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let ideal = dcg(&best, k, gain);
    if ideal > 0.0 { dcg(listed, k, gain) / ideal } else { 0.0 }
}

fn dcg(grades: &[u32], k: usize, gain: Gain) -> f64 {
    let ranks = grades.iter().take(k).zip(1_u32..);
    ranks.map(|(&grade, rank)| gain.of(grade) / f64::from(rank + 1).log2()).sum()
}

/// Share of the relevant products (grade at least `relevant`) that are among the first `k`. `None`
/// when none is relevant.
pub fn recall(listed: &[u32], judged: &[u32], k: usize, relevant: u32) -> Option<f64> {
    let count = |grades: &[u32]| grades.iter().filter(|grade| **grade >= relevant).count();
    let all = count(judged);
    (all > 0).then(|| count(&listed[..k.min(listed.len())]) as f64 / all as f64)
}

/// 1 / rank of the first relevant product, 0 when the list has none. `None` when none is relevant.
pub fn reciprocal_rank(listed: &[u32], judged: &[u32], relevant: u32) -> Option<f64> {
    judged.iter().any(|grade| *grade >= relevant).then(|| {
        let first = listed.iter().position(|grade| *grade >= relevant);
        first.map_or(0.0, |index| 1.0 / (index + 1) as f64)
    })
}

/// A mean that grows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// Of what was added; 0 of nothing.
    pub fn get(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-4, "{got}, expected {expected}");
    }

    /// By hand: discounts of ranks 1 to 4 are 1, 0.63093, 0.5, 0.43068.
    #[test]
    fn ndcg_by_hand() {
        for (listed, judged, k, gain, expected) in [
            (&[3, 2, 1][..], &[1, 2, 3][..], 10, Gain::Linear, 1.0),
            // (1 + 2·0.63093 + 3·0.5) / (3 + 2·0.63093 + 1·0.5)
            (&[1, 2, 3], &[1, 2, 3], 10, Gain::Linear, 3.76186 / 4.76186),
            // (1 + 3·0.63093 + 7·0.5) / (7 + 3·0.63093 + 1·0.5)
            (&[1, 2, 3], &[1, 2, 3], 10, Gain::Exponential, 6.39279 / 9.39279),
            // An unjudged product in front pushes everything down by one.
            (&[0, 3], &[3], 10, Gain::Linear, 0.63093),
            // Only two ranks count, for the list and for the best order.
            (&[0, 0, 3], &[3, 3, 3], 2, Gain::Linear, 0.0),
            (&[3], &[3, 3, 3], 2, Gain::Linear, 1.0 / 1.63093),
            (&[], &[3], 10, Gain::Linear, 0.0),
            (&[0, 0], &[0, 0], 10, Gain::Linear, 0.0),
        ] {
            near(ndcg(listed, judged, k, gain), expected);
        }
    }

    #[test]
    fn recall_by_hand() {
        for (listed, judged, k, relevant, expected) in [
            (&[5, 0, 6, 4][..], &[5, 6, 4, 6][..], 100, 5, Some(2.0 / 3.0)),
            (&[5, 0, 6, 4], &[5, 6, 4, 6], 2, 5, Some(1.0 / 3.0)),
            (&[], &[1], 100, 1, Some(0.0)),
            (&[1], &[1, 0], 100, 2, None),
        ] {
            assert_eq!(recall(listed, judged, k, relevant), expected);
        }
    }

    #[test]
    fn reciprocal_rank_by_hand() {
        for (listed, judged, relevant, expected) in [
            (&[0, 1, 3, 3][..], &[3, 3, 1][..], 3, Some(1.0 / 3.0)),
            (&[0, 1], &[3], 3, Some(0.0)),
            (&[1], &[1], 3, None),
        ] {
            assert_eq!(reciprocal_rank(listed, judged, relevant), expected);
        }
    }

    #[test]
    fn means() {
        let mut mean = Mean::default();
        near(mean.get(), 0.0);
        mean.add(1.0);
        mean.add(0.5);
        near(mean.get(), 0.75);
    }
}
