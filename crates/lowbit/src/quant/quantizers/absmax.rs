//! Absolute-maximum scaling: the largest weight takes the largest integer.

use super::round;
use crate::bits::WeightBits;

/// Rounds `weights` to `bits`-bit symmetric integers, the largest magnitude to the largest integer: `scale = max|w| / (2^(bits−1) − 1)`, of
/// odd ones `max|w| / (2^bits − 1)`.
/// Returns the scale, which is positive even where all weights are zero.
pub fn absmax(weights: &[f32], bits: WeightBits, out: &mut [i16]) -> f32 {
    let largest = weights.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    let limit = bits.magnitude_max();
    let scale = if largest > 0.0 {
        largest / f32::from(limit)
    } else {
        1.0
    };
    round(weights, scale, bits, out);
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_weight_takes_the_largest_integer_and_ties_go_to_even() {
        let mut q = [0; 4];
        let scale = absmax(&[-1.27, 0.025, 0.015, 0.0], WeightBits::B8, &mut q);
        assert!((scale - 0.01).abs() < 1e-6);
        assert_eq!(q, [-127, 2, 2, 0]);
    }

    #[test]
    fn a_channel_of_zeros_keeps_a_positive_scale() {
        let mut q = [1; 2];
        assert_eq!(absmax(&[0.0, 0.0], WeightBits::B4, &mut q), 1.0);
        assert_eq!(q, [0, 0]);
    }
}
