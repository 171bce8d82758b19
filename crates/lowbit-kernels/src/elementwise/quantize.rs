//! Real numbers to levels and back, and their range.

use super::level;
use crate::Isa;
use crate::vectorize::vectorized;

/// `out = clamp(round_ties_even(x · inv_scale) + zero_point, 0, 255)`; NaN becomes 0.
///
/// # Panics
/// If the lengths differ.
pub fn quantize_u8(isa: Isa, input: &[f32], inv_scale: f32, zero_point: i32, out: &mut [u8]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    let zero = zero_point as f32;
    vectorized!(isa, || for (q, &x) in out.iter_mut().zip(input) {
        *q = level((x * inv_scale).round_ties_even() + zero, 0.0, 255.0).1;
    });
}

/// `out = clamp(round_ties_even(x / scale) + zero_point, 0, high)`, as ONNX's QuantizeLinear divides; NaN becomes 0.
///
/// # Panics
/// If the lengths differ.
pub fn quantize_linear_u8(
    isa: Isa,
    input: &[f32],
    scale: f32,
    zero_point: u8,
    high: u8,
    out: &mut [u8],
) {
    assert_eq!(input.len(), out.len(), "one result per input");
    let (zero, high) = (f32::from(zero_point), f32::from(high));
    vectorized!(isa, || for (q, &x) in out.iter_mut().zip(input) {
        *q = level((x / scale).round_ties_even() + zero, 0.0, high).1;
    });
}

/// `out = (q − zero_point) · scale`.
///
/// # Panics
/// If the lengths differ.
pub fn dequantize_u8(isa: Isa, input: &[u8], scale: f32, zero_point: u8, out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    vectorized!(isa, || for (x, &q) in out.iter_mut().zip(input) {
        *x = (f32::from(q) - f32::from(zero_point)) * scale;
    });
}

/// The smallest and the largest element; `(∞, −∞)` of nothing.
#[must_use]
pub fn min_max(isa: Isa, input: &[f32]) -> (f32, f32) {
    vectorized!(isa, || {
        let mut low = [f32::INFINITY; 32];
        let mut high = [f32::NEG_INFINITY; 32];
        let chunks = input.chunks_exact(32);
        for (lane, &x) in chunks.remainder().iter().enumerate() {
            low[lane] = low[lane].min(x);
            high[lane] = high[lane].max(x);
        }
        for chunk in chunks {
            for (lane, &x) in chunk.iter().enumerate() {
                low[lane] = if x < low[lane] { x } else { low[lane] };
                high[lane] = if x > high[lane] { x } else { high[lane] };
            }
        }
        (
            low.into_iter().fold(f32::INFINITY, f32::min),
            high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_to_even_and_clamps_at_both_ends() {
        for isa in Isa::available() {
            let input = [0.5, 1.5, 2.5, -0.5, -300.0, 300.0, f32::NAN, f32::INFINITY];
            let mut out = [9; 8];
            quantize_u8(isa, &input, 1.0, 10, &mut out);
            assert_eq!(out, [10, 12, 12, 10, 0, 255, 0, 255], "{isa}");
        }
    }

    #[test]
    fn what_is_divided_is_rounded_once() {
        let input: Vec<f32> = (-700..700).map(|i| i as f32 * 0.37).collect();
        let (scale, zero_point, high) = (0.7f32, 20u8, 250u8);
        for isa in Isa::available() {
            let mut out = vec![9; input.len()];
            quantize_linear_u8(isa, &input, scale, zero_point, high, &mut out);
            for (&q, &x) in out.iter().zip(&input) {
                let level = (x / scale).round_ties_even() as i32 + i32::from(zero_point);
                assert_eq!(i32::from(q), level.clamp(0, 250), "{isa}, {x}");
            }
        }
    }

    #[test]
    fn the_range_is_that_of_the_portable_loop_on_every_isa() {
        for len in [0, 1, 31, 32, 33, 1000] {
            let floats: Vec<f32> = (0..len)
                .map(|i| (i * 37 % 256) as f32 * 0.1 - 7.0)
                .collect();
            let (low, high) = min_max(Isa::PORTABLE, &floats);
            assert_eq!(low, floats.iter().copied().fold(f32::INFINITY, f32::min));
            assert_eq!(
                high,
                floats.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
            for isa in Isa::available() {
                assert_eq!(min_max(isa, &floats), (low, high), "{isa}");
            }
        }
    }
}
