//! Weight quantizers: one file each. A quantizer turns one channel (or tensor) of real weights into integers and a scale.

mod absmax;
mod binary;
mod mse;

pub use absmax::absmax;
pub use binary::binary;
pub use mse::mse;

use crate::bits::WeightBits;

/// The integers of a width that are nearest to `weights / scale`, ties as in [`WeightBits::nearest`]; NaN becomes the lowest.
pub(crate) fn round(weights: &[f32], scale: f32, bits: WeightBits, out: &mut [i16]) {
    // Added to a number below 2²² in magnitude, it leaves the nearest whole number in the last bits: without SSE 4.1,
    // which the compiler may not assume, `round_ties_even` is a function call for each weight of each step in training.
    const WHOLE: f32 = 12_582_912.0;
    let limit = f32::from(bits.magnitude_max());
    if bits.is_odd() {
        for (q, &w) in out.iter_mut().zip(weights) {
            let cut = (w / scale).max(-limit).min(limit);
            *q = 2 * ((0.5 * (cut - 1.0) + WHOLE).to_bits() as i16) + 1;
        }
        return;
    }
    for (q, &w) in out.iter_mut().zip(weights) {
        let cut = (w / scale).max(-limit).min(limit);
        *q = (cut + WHOLE).to_bits() as i16;
    }
}

/// Quantizes one channel with the default quantizer of its width: [`binary`] for 1 bit, [`absmax`] above. At 16 bits the
/// step is widened where Σ|q| could overflow an i32 accumulator of u8 activations.
///
/// Returns the step size; the integers go to `out`, which is as long as `weights`.
pub fn quantize_channel(weights: &[f32], bits: WeightBits, out: &mut [i16]) -> f32 {
    if bits == WeightBits::B1 {
        return binary(weights, out);
    }
    let scale = absmax(weights, bits, out);
    if bits < WeightBits::B16 {
        return scale;
    }
    let sum: u64 = out.iter().map(|q| u64::from(q.unsigned_abs())).sum();
    let most = bits.width().max_magnitude_sum();
    if sum <= most {
        return scale;
    }
    // Rounding may add half a step per weight.
    let room = (most as f64 - 0.5 * weights.len() as f64).max(1.0);
    let scale = scale * (sum as f64 / room) as f32 * 1.000_001;
    round(weights, scale, bits, out);
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_takes_ties_to_even_and_stops_at_the_limit() {
        let mut weights = vec![
            0.5,
            1.5,
            -0.5,
            -1.5,
            0.499_999_97,
            126.5,
            1e9,
            f32::NEG_INFINITY,
        ];
        use WeightBits::{B2, B4, B8, B16, Odd4, Ternary};
        for (bits, scale) in [
            (B8, 1.0),
            (B16, 0.37),
            (B4, 1.0),
            (Ternary, 2.9),
            (Odd4, 1.0),
            (B2, 2.9),
        ] {
            weights.extend((-90_000..90_000).map(|i| i as f32 * 0.173 * scale));
            let mut q = vec![0; weights.len()];
            round(&weights, scale, bits, &mut q);
            for (&q, &w) in q.iter().zip(&weights) {
                let limit = f32::from(bits.magnitude_max());
                let cut = (w / scale).clamp(-limit, limit);
                let found = f32::from(q);
                assert_eq!(
                    f64::from(q),
                    bits.nearest((w / scale).into()),
                    "{w} / {scale}"
                );
                match bits.is_odd() {
                    true => assert!(
                        q % 2 != 0 && (found - cut).abs() <= 1.0,
                        "{w} / {scale}: {q}"
                    ),
                    false => assert_eq!(found, cut.round_ties_even(), "{w} / {scale}"),
                }
            }
        }
    }

    #[test]
    fn sixteen_bit_channels_never_overflow_an_accumulator() {
        for fan_in in [10, 800, 2400, 100_000] {
            let weights: Vec<f32> = (0..fan_in)
                .map(|i| if i % 2 == 0 { 0.1 } else { -0.1 })
                .collect();
            let mut q = vec![0; fan_in];
            let scale = quantize_channel(&weights, WeightBits::B16, &mut q);
            assert!(WeightBits::B16.width().fits(&q), "{fan_in}");
            assert!(
                (f32::from(q[0]) * scale - 0.1).abs() < 0.51 * scale,
                "{fan_in}"
            );
        }
    }
}
