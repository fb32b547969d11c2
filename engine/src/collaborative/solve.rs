//! The small positive definite systems of ALS: one for each user and product.

use super::wide::{add_scaled, dot};

/// Solves `A·x = b` by Cholesky's method, where `upper` has the upper triangle of `A`, `b.len()` squared, and becomes
/// the factor. `b` becomes `x`. `false`: `A` is not positive definite, or holds a number that is not finite; `b` means
/// nothing then.
#[inline(always)]
#[allow(clippy::inline_always, reason = "to be compiled inside `wide`")]
pub fn solve(upper: &mut [f32], b: &mut [f32]) -> bool {
    let dims = b.len();
    // A = UᵀU, row after row: U is upper, so that every inner loop runs along a row.
    for at in 0..dims {
        let (done, rest) = upper.split_at_mut(at * dims);
        let line = &mut rest[at..dims];
        for above in done.chunks_exact(dims) {
            add_scaled(line, -above[at], &above[at..]);
        }
        let pivot = line[0];
        if !pivot.is_finite() || pivot <= 0.0 {
            return false;
        }
        let scale = pivot.sqrt().recip();
        line.iter_mut().for_each(|value| *value *= scale);
    }
    // Uᵀ·y = b, then U·x = y.
    for at in 0..dims {
        let line = &upper[at * dims..][..dims];
        b[at] /= line[at];
        let value = b[at];
        add_scaled(&mut b[at + 1..], -value, &line[at + 1..]);
    }
    for at in (0..dims).rev() {
        let line = &upper[at * dims..][..dims];
        let known = dot(&line[at + 1..], &b[at + 1..]);
        b[at] = (b[at] - known) / line[at];
    }
    b.iter().all(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::wide::{add_outer, wide};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_solved_fits(dims in 1_usize..40, seed in proptest::collection::vec(-1.0_f32..1.0, 40 * 41)) {
            let mut upper = vec![0.0; dims * dims];
            for (n, row) in seed.chunks_exact(dims).take(dims + 3).enumerate() {
                wide(|| add_outer(&mut upper, row, 1.0 + n as f32));
            }
            (0..dims).for_each(|at| upper[at * dims + at] += 0.5);
            let b = &seed[..dims];
            let (mut factor, mut x) = (upper.clone(), b.to_vec());
            prop_assert!(wide(|| solve(&mut factor, &mut x)));
            for row in 0..dims {
                let entry = |column: usize| upper[row.min(column) * dims + row.max(column)];
                let product: f64 = (0..dims).map(|c| f64::from(entry(c)) * f64::from(x[c])).sum();
                prop_assert!((product - f64::from(b[row])).abs() < 1e-2, "{product} {}", b[row]);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_said() {
        let check = |upper: [f32; 4], expected| {
            assert_eq!(solve(&mut upper.clone(), &mut [1.0, 1.0]), expected, "{upper:?}");
        };
        check([2.0, 1.0, 0.0, 2.0], true);
        check([0.0, 1.0, 0.0, 2.0], false);
        check([1.0, 2.0, 0.0, 1.0], false);
        check([f32::NAN, 1.0, 0.0, 2.0], false);
        check([1.0, f32::INFINITY, 0.0, 2.0], false);
    }
}
