//! Neighbours: for each product, which others it speaks for, and how much.

/// A sparse matrix, product by product: line `i` has what an interaction with `i` adds to the scores of others. Need
/// not be symmetric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Neighbours {
    /// Line `i` is `starts[i]..starts[i + 1]`.
    starts: Vec<u64>,
    positions: Vec<u32>,
    weights: Vec<f32>,
}

impl Neighbours {
    /// From lines of `(position, weight)`; each line is put in order, heaviest first, ties by position.
    pub fn from_lines(lines: impl IntoIterator<Item = Vec<(u32, f32)>>) -> Self {
        let mut all = Self { starts: vec![0], ..Self::default() };
        for mut line in lines {
            line.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.positions.extend(line.iter().map(|(position, _)| *position));
            all.weights.extend(line.iter().map(|(_, weight)| *weight));
            all.starts.push(all.positions.len() as u64);
        }
        all
    }

    /// From what [`Neighbours::parts`] gave, of a file; `None`: it does not fit together, or a number is not finite.
    pub fn from_parts(starts: Vec<u64>, positions: Vec<u32>, weights: Vec<f32>) -> Option<Self> {
        let rows = starts.len().checked_sub(1)?;
        let whole = starts.first() == Some(&0)
            && starts.is_sorted()
            && *starts.last()? == positions.len() as u64
            && positions.len() == weights.len()
            && positions.iter().all(|position| (*position as usize) < rows)
            && weights.iter().all(|weight| weight.is_finite());
        whole.then_some(Self { starts, positions, weights })
    }

    /// Starts of lines, positions, weights.
    pub fn parts(&self) -> (&[u64], &[u32], &[f32]) {
        (&self.starts, &self.positions, &self.weights)
    }

    /// Products.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// What product `position` speaks for, heaviest first.
    pub fn line(&self, position: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let range = self.starts[position] as usize..self.starts[position + 1] as usize;
        let (positions, weights) = (&self.positions[range.clone()], &self.weights[range]);
        positions.iter().copied().zip(weights.iter().copied())
    }

    /// Adds to `scores`, one for each product, what these products speak for, each times its strength.
    pub fn add_scores(&self, seen: &[(u32, f32)], scores: &mut [f32]) {
        for (product, strength) in seen {
            for (position, weight) in self.line(*product as usize) {
                scores[position as usize] += strength * weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_order_and_add_up() {
        let lines = vec![vec![(2, 0.5), (1, 0.75)], vec![], vec![(0, 0.25)]];
        let all = Neighbours::from_lines(lines);
        assert_eq!(all.line(0).collect::<Vec<_>>(), [(1, 0.75), (2, 0.5)]);
        let mut scores = vec![0.0; 3];
        all.add_scores(&[(0, 2.0), (2, 1.0)], &mut scores);
        assert_eq!(scores, [0.25, 1.5, 1.0]);
        let (starts, positions, weights) = all.parts();
        let read = Neighbours::from_parts(starts.into(), positions.into(), weights.into());
        assert_eq!(read.as_ref(), Some(&all));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let check = |starts: &[u64], positions: &[u32], weights: &[f32]| {
            let read = Neighbours::from_parts(starts.into(), positions.into(), weights.into());
            assert_eq!(read, None, "{starts:?} {positions:?} {weights:?}");
        };
        check(&[], &[], &[]);
        check(&[1], &[], &[]);
        check(&[0, 1], &[0, 0], &[1.0, 1.0]);
        check(&[0, 2, 1], &[0], &[1.0]);
        check(&[0, 1], &[1], &[1.0]);
        check(&[0, 1], &[0], &[f32::NAN]);
        check(&[0, 1], &[0], &[]);
    }
}
