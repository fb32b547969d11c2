//! Randomised truncated singular value decomposition of a sparse matrix.
//!
//! Halko, Martinsson, Tropp: "Finding structure with randomness", SIAM Review 53 (2011): a random
//! subspace, sharpened by power iteration with orthonormalisation in between (algorithm 4.4), then
//! the small problem solved exactly inside it (section 5, here Rayleigh–Ritz on AᵀA). Only the
//! column side is ever dense: memory is the non-zeros plus two matrices of columns × rank, however
//! many rows there are.
//!
//! The dense side is kept in blocks of [`LANES`] columns. A thread multiplies the whole sparse
//! matrix with one block: no two threads write to the same place, so the result does not depend on
//! how many there are. The dense steps in between, a small part of the work, run on one thread for
//! the same reason.

use faer::{Mat, Side};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::io;

/// Columns of a block: one cache line of f32.
const LANES: usize = 16;
/// Extra dimensions of the random subspace (5 to 10 in the paper).
const OVERSAMPLE: usize = 12;
/// Directions weaker than this part of the strongest are left out: they are rounding errors, and a
/// single word can lie in them wholly.
const MIN_STRENGTH: f32 = 0.02;
/// Multiplications with AᵀA before the last.
const POWER_ITERATIONS: usize = 3;

/// A sparse matrix, row by row.
#[derive(Debug, Clone, Default)]
pub struct Sparse {
    ends: Vec<usize>,
    entries: Vec<(u32, f32)>,
    columns: usize,
}

impl Sparse {
    /// A matrix of `columns` columns without rows.
    pub fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Adds a row of `(column, value)`; columns are below the width and named once.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        self.entries.extend(row);
        self.ends.push(self.entries.len());
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn iter(&self) -> impl Iterator<Item = &[(u32, f32)]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.entries[start..end])
    }
}

/// The strongest right singular vectors of a matrix.
#[derive(Debug, Default)]
pub struct RightSingular {
    /// Singular values, falling.
    pub values: Vec<f32>,
    /// `columns × values.len()`, row by row: the place of each column in the subspace.
    pub vectors: Vec<f32>,
}

/// A dense matrix of rows × [`LANES`].
type Block = Vec<[f32; LANES]>;

/// The at most `rank` strongest right singular vectors of `matrix`; fewer when its rank is lower.
/// Deterministic for a seed, whatever the number of threads of the current rayon pool. `progress` is
/// told steps done and steps in all. Fails when the system gives it no thread.
pub fn right_singular(
    matrix: &Sparse,
    rank: usize,
    seed: u64,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> io::Result<RightSingular> {
    let columns = matrix.columns();
    let width = (rank + OVERSAMPLE).min(columns).min(matrix.rows());
    if width == 0 || rank == 0 {
        return Ok(RightSingular::default());
    }
    // faer splits its work by the number of threads of the pool it runs in.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(io::Error::other)?;
    let steps = POWER_ITERATIONS + 1;
    let mut basis = alone.install(|| orthonormal(&random(columns, width, seed), width));
    for step in 0..POWER_ITERATIONS {
        let image = gram_times(matrix, &basis);
        basis = alone.install(|| orthonormal(&image, width));
        progress(step + 1, steps);
    }
    let image = gram_times(matrix, &basis);
    let result = alone.install(|| rayleigh_ritz(&basis, &image, columns, width, rank));
    progress(steps, steps);
    Ok(result)
}

fn blocks(columns: usize, width: usize) -> Vec<Block> {
    vec![vec![[0.0; LANES]; columns]; width.div_ceil(LANES)]
}

/// Standard normal numbers (Box and Muller); zero in the lanes beyond `width`.
fn random(columns: usize, width: usize, seed: u64) -> Vec<Block> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = blocks(columns, width);
    for lane in 0..width {
        for row in &mut out[lane / LANES] {
            let (radius, angle): (f32, f32) = (rng.random(), rng.random());
            row[lane % LANES] =
                (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f32::consts::TAU * angle).cos();
        }
    }
    out
}

/// AᵀA times `basis`.
fn gram_times(matrix: &Sparse, basis: &[Block]) -> Vec<Block> {
    basis
        .par_iter()
        .map(|block| {
            let mut out: Block = vec![[0.0; LANES]; matrix.columns()];
            for row in matrix.iter() {
                let mut image = [0.0; LANES];
                for &(column, value) in row {
                    add(&mut image, value, &block[column as usize]);
                }
                for &(column, value) in row {
                    add(&mut out[column as usize], value, &image);
                }
            }
            out
        })
        .collect()
}

fn add(sum: &mut [f32; LANES], weight: f32, of: &[f32; LANES]) {
    for lane in 0..LANES {
        sum[lane] += weight * of[lane];
    }
}

fn dense(blocks: &[Block], columns: usize, width: usize) -> Mat<f32> {
    Mat::from_fn(columns, width, |row, lane| blocks[lane / LANES][row][lane % LANES])
}

fn orthonormal(of: &[Block], width: usize) -> Vec<Block> {
    let columns = of[0].len();
    let q = dense(of, columns, width).qr().compute_thin_Q();
    let mut out = blocks(columns, width);
    for lane in 0..width {
        for (row, place) in out[lane / LANES].iter_mut().enumerate() {
            place[lane % LANES] = q[(row, lane)];
        }
    }
    out
}

/// The eigenvectors of AᵀA inside the subspace of `basis`, given `image` = AᵀA·basis.
fn rayleigh_ritz(
    basis: &[Block],
    image: &[Block],
    columns: usize,
    width: usize,
    rank: usize,
) -> RightSingular {
    let basis = dense(basis, columns, width);
    let small = basis.transpose() * dense(image, columns, width);
    // Rounding leaves it a little unsymmetric.
    let small = Mat::from_fn(width, width, |i, j| 0.5 * (small[(i, j)] + small[(j, i)]));
    let Ok(eigen) = small.self_adjoint_eigen(Side::Lower) else {
        return RightSingular::default();
    };
    // faer gives them rising.
    let strength = |at: usize| eigen.S()[width - 1 - at].max(0.0).sqrt();
    let kept =
        (0..rank.min(width)).take_while(|&at| strength(at) > MIN_STRENGTH * strength(0)).count();
    let turned = Mat::from_fn(width, kept, |i, at| eigen.U()[(i, width - 1 - at)]);
    let vectors = basis * turned;
    RightSingular {
        values: (0..kept).map(strength).collect(),
        vectors: (0..columns)
            .flat_map(|row| (0..kept).map(move |at| (row, at)))
            .map(|place| vectors[place])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sparse, right_singular};
    use faer::Mat;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn sample(rows: usize, columns: usize, per_row: usize, seed: u64) -> Sparse {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut matrix = Sparse::new(columns);
        for row in 0..rows {
            // Two topics, so that there is something to find.
            let half = columns / 2;
            let mut named = std::collections::BTreeMap::new();
            for _ in 0..per_row {
                let column = rng.random_range(0..half) + (row % 2) * half;
                named.insert(column as u32, rng.random::<f32>() + 0.1);
            }
            matrix.push(named);
        }
        matrix
    }

    #[test]
    fn values_and_subspace_are_those_of_a_full_decomposition() {
        let matrix = sample(300, 80, 6, 1);
        let mut full = Mat::<f32>::zeros(300, 80);
        for (row, entries) in matrix.iter().enumerate() {
            for &(column, value) in entries {
                full[(row, column as usize)] = value;
            }
        }
        let exact = full.thin_svd().unwrap();
        let found = right_singular(&matrix, 10, 7, &|_, _| {}).unwrap();
        assert_eq!(found.values.len(), 10);
        for (at, value) in found.values.iter().enumerate() {
            let expected = exact.S()[at];
            assert!((value - expected).abs() < 0.05 * expected, "{at}: {value} {expected}");
        }
        // The leading vectors, up to sign.
        for at in 0..2 {
            let cosine: f32 =
                (0..80).map(|c| found.vectors[c * 10 + at] * exact.V()[(c, at)]).sum();
            assert!(cosine.abs() > 0.999, "{at}: {cosine}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_vectors_on_any_number_of_threads() {
        let matrix = sample(2_000, 700, 8, 2);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| right_singular(&matrix, 40, 3, &|_, _| {}).unwrap().vectors)
        };
        let alone = run(1);
        assert_eq!(alone.len(), 700 * 40);
        assert!(alone == run(1) && alone == run(3));
        let other = right_singular(&matrix, 40, 4, &|_, _| {}).unwrap().vectors;
        assert!(alone != other, "the seed decides");
    }

    #[test]
    fn small_and_degenerate_matrices_have_fewer_vectors() {
        let check = |rows: &[&[(u32, f32)]], columns, expected: usize| {
            let mut matrix = Sparse::new(columns);
            for row in rows {
                matrix.push(row.iter().copied());
            }
            let found = right_singular(&matrix, 5, 1, &|_, _| {}).unwrap();
            assert_eq!(found.values.len(), expected, "{rows:?}");
            assert_eq!(found.vectors.len(), expected * columns);
            assert!(found.vectors.iter().all(|x| x.is_finite()));
        };
        check(&[], 0, 0);
        check(&[], 3, 0);
        check(&[&[]], 3, 0);
        check(&[&[(0, 1.0)]], 3, 1);
        check(&[&[(0, 1.0)], &[(0, 1.0)], &[(0, 2.0)]], 3, 1);
        check(&[&[(0, 1.0)], &[(1, 1.0)], &[(0, 2.0), (2, 1.0)]], 3, 3);
    }
}
