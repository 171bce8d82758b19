//! Scaling with the smallest squared error: large weights are cut off where that makes the others finer.

use super::{absmax, round};
use crate::bits::WeightBits;

/// Ranges that are tried, from the largest weight down.
const TRIED: usize = 60;

/// Shortest range tried, as a share of the largest weight.
const SHORTEST: f32 = 0.1;

/// Rounds `weights` to `bits`-bit symmetric integers with the scale, of 60 between that of [`absmax`] and a tenth of it, whose
/// squared error is smallest. Returns the scale, which is positive even where all weights are zero.
///
/// Cutting weights off moves a channel's mean; without a corrected bias that costs more than it gains.
pub fn mse(weights: &[f32], bits: WeightBits, out: &mut [i16]) -> f32 {
    let whole = absmax(weights, bits, out);
    let error = |scale: f32, out: &mut [i16]| -> f64 {
        round(weights, scale, bits, out);
        let pairs = weights.iter().zip(&*out);
        pairs
            .map(|(&w, &q)| (f64::from(w) - f64::from(q) * f64::from(scale)).powi(2))
            .sum()
    };
    let mut best = (error(whole, out), whole);
    for step in 1..TRIED {
        let share = 1.0 - (1.0 - SHORTEST) * step as f32 / (TRIED - 1) as f32;
        let scale = (whole * share).max(f32::MIN_POSITIVE);
        let found = error(scale, out);
        if found < best.0 {
            best = (found, scale);
        }
    }
    round(weights, best.1, bits, out);
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_weight_does_not_set_the_range_of_a_hundred_small_ones() {
        let mut weights = vec![0.3f32; 99];
        weights.push(2.1);
        let mut q = vec![0; 100];
        // With the largest weight, a step of 0.3 at 4 bits: nothing is lost, and nothing changes.
        assert!((mse(&weights, WeightBits::B4, &mut q) - 0.3).abs() < 1e-6);
        assert_eq!((q[0], q[99]), (1, 7));
        // At 2 bits a step of 2.1 makes zeros of the others: 99·0.3² = 8.91. A step s below 0.6 keeps them:
        // 99·(0.3 − s)² + (2.1 − s)² is smallest at s = (99·0.3 + 2.1) / 100 = 0.318.
        let scale = mse(&weights, WeightBits::Ternary, &mut q);
        assert!((scale - 0.32).abs() < 0.02, "{scale}");
        assert_eq!((q[0], q[99]), (1, 1));
    }

    #[test]
    fn a_channel_of_zeros_keeps_a_positive_scale() {
        let mut q = [1; 2];
        assert!(mse(&[0.0, 0.0], WeightBits::B4, &mut q) > 0.0);
        assert_eq!(q, [0, 0]);
    }
}
