//! A dense matrix with a row for each user or product.

/// Rows of `dims` numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Factors {
    dims: usize,
    values: Vec<f32>,
}

impl Factors {
    /// All zero.
    pub fn zeros(rows: usize, dims: usize) -> Self {
        Self { dims, values: vec![0.0; rows * dims] }
    }

    /// From row after row; `None`: they are not whole rows, or a number is not finite.
    pub fn from_values(dims: usize, values: Vec<f32>) -> Option<Self> {
        let whole = dims > 0 && values.len().is_multiple_of(dims);
        (whole && values.iter().all(|value| value.is_finite())).then_some(Self { dims, values })
    }

    /// Numbers in a row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.dims).unwrap_or(0)
    }

    /// Row `position`.
    pub fn row(&self, position: usize) -> &[f32] {
        &self.values[position * self.dims..][..self.dims]
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same, to be written.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// `FᵀF`, `dims × dims`. The same to the bit however many threads there are: sums of blocks of rows
    /// are added in the order of the blocks.
    pub fn gram(&self) -> Vec<f32> {
        use rayon::prelude::*;
        /// Rows summed by one thread at a time.
        const BLOCK: usize = 4_096;
        let dims = self.dims;
        let block = |rows: &[f32]| {
            let mut sum = vec![0.0_f32; dims * dims];
            super::wide(|| {
                rows.chunks_exact(dims).for_each(|row| super::add_outer(&mut sum, row, 1.0));
            });
            sum
        };
        let sums: Vec<Vec<f32>> = self.values.par_chunks(BLOCK * dims.max(1)).map(block).collect();
        let mut gram = vec![0.0_f64; dims * dims];
        for sum in &sums {
            gram.iter_mut().zip(sum).for_each(|(total, part)| *total += f64::from(*part));
        }
        // The upper triangle was summed; both are given.
        for row in 0..dims {
            for column in 0..row {
                gram[row * dims + column] = gram[column * dims + row];
            }
        }
        gram.into_iter().map(|value| value as f32).collect()
    }
}
