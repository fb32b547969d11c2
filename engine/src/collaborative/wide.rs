//! The widest vector registers this processor has, for plain loops.
//!
//! The program is compiled for any x86-64; a loop runs with AVX2 and FMA only inside [`wide`], and only if it is
//! inlined there. Sums run in lanes of a fixed number, so that results do not depend on the processor.

use std::sync::LazyLock;

static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);

/// Sums side by side: two registers of eight.
const LANES: usize = 16;

/// Runs `work`, compiled for what this processor has.
#[inline]
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    ARCH.dispatch(work)
}

/// Inner product.
#[inline(always)]
#[allow(clippy::inline_always, reason = "outside `wide` it would be compiled for any processor")]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `to += scale · from`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "outside `wide` it would be compiled for any processor")]
pub fn add_scaled(to: &mut [f32], scale: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = scale.mul_add(*from, *to);
    }
}

/// Adds `scale · row · rowᵀ` to the upper triangle of `sum`, `row.len()` squared.
#[inline(always)]
#[allow(clippy::inline_always, reason = "outside `wide` it would be compiled for any processor")]
pub fn add_outer(sum: &mut [f32], row: &[f32], scale: f32) {
    let dims = row.len();
    for (at, (line, value)) in sum.chunks_exact_mut(dims).zip(row).enumerate() {
        add_scaled(&mut line[at..], scale * value, &row[at..]);
    }
}
