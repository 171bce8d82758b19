//! Passes over values one by one, and short sums with one documented rounding, in f32 and u8: between layers, and from f32
//! to u8 and back.
//!
//! The loops are plain and left to the compiler's vectorizer; nothing is contracted or reassociated, so that all ISAs agree
//! to the bit.

mod add;
mod fake_quant;
mod lut;
mod map;
mod mul;
mod normalize;
mod pool;
mod quantize;
mod rows;
mod scale;

pub use add::{AddU8, SumU8, add_f32, add_u8, sum_u8};
pub use fake_quant::{FakeQuantGradient, fake_quant, fake_quant_gradient};
pub use lut::lut_u8;
pub use map::{exp_f32, map_f32, normal_f32, sigmoid_f32};
pub use mul::{MulU8, mul_f32, mul_u8};
pub use normalize::layer_norm_f32;
pub use pool::{AvgPoolU8, global_avg_pool_f32, global_avg_pool_u8};
pub use quantize::{dequantize_u8, min_max, quantize_linear_u8, quantize_u8};
pub use rows::exp_rows_f32;
pub use scale::scale_u8;

/// A whole number, cut to whole `low..=high` in 0..=255, as f32 and as u8; NaN becomes `low`.
///
/// `as u8` saturates, which the vectorizer does one by one; behind 2²³ the last bits of an f32 are the whole number's own.
#[inline(always)]
fn level(whole: f32, low: f32, high: f32) -> (f32, u8) {
    let cut = whole.max(low).min(high);
    (cut, (cut + 8_388_608.0).to_bits() as u8)
}

/// 1.5 · 2²³: a small f32 that it is added to loses what is behind its point, ties to even, and its last bits are those of the
/// whole number in two's complement.
const ROUNDING: f32 = 12_582_912.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_cut_whole_and_never_wraps() {
        for (whole, expected) in [
            (f32::NAN, 3),
            (f32::NEG_INFINITY, 3),
            (-1.0, 3),
            (3.0, 3),
            (200.0, 200),
            (250.0, 250),
            (251.0, 250),
            (1e30, 250),
        ] {
            let (cut, code) = level(whole, 3.0, 250.0);
            assert_eq!((cut, code), (f32::from(expected), expected), "{whole}");
        }
    }
}
