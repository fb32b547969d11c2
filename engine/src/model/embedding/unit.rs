//! The one door through which vectors leave the embedders.

/// Scales `vector` to length 1. `None` for what has no direction: zeros, or anything not finite.
pub fn to_unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    // Not only `> 0`: a NaN or an infinity anywhere makes the sum one.
    if !square.is_finite() || square < f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    let scale = 1.0 / square.sqrt();
    for x in &mut vector {
        *x = (f64::from(*x) * scale) as f32;
    }
    Some(vector)
}
