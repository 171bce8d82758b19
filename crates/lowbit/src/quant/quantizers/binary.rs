//! One bit per weight: the sign, scaled by the mean magnitude.

/// Signs of `weights` (zero counts as positive) with `scale = mean|w|`, the least-squares optimum (Rastegari et al. 2016,
/// XNOR-Net, equation 6). Returns the scale, which is positive even where all weights are zero.
pub fn binary(weights: &[f32], out: &mut [i16]) -> f32 {
    let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
    let mean = (sum / weights.len().max(1) as f64) as f32;
    for (q, &w) in out.iter_mut().zip(weights) {
        *q = if w < 0.0 { -1 } else { 1 };
    }
    if mean > 0.0 { mean } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_scaled_by_the_mean_magnitude() {
        let mut q = [0; 4];
        assert_eq!(binary(&[-3.0, 1.0, 0.0, 4.0], &mut q), 2.0);
        assert_eq!(q, [-1, 1, 1, 1]);
    }
}
