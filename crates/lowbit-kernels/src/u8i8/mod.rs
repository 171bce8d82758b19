//! Convolutions and products of u8 activations with integer weights of 16, 8, 4, 2 or 1 bit: i32 accumulators, one
//! documented rounding rule.
//!
//! For output channel `c`, `acc[c] = acc_offset[c] + Σ x·w` (exact, i32), then either
//! `clamp(round_ties_even(fma(acc as f32, multiplier[c], bias[c])) + zero_point, low, high)` as u8, or
//! `fma(acc as f32, multiplier[c], bias[c])` as f32. The conversion and the fused multiply-add are correctly rounded on
//! every ISA, so all ISAs agree to the bit. `acc_offset[c] = -zero_point_in · Σ w[c]` makes asymmetric activations exact.
//! Fused max-pooling takes the maximum of the accumulators, which equals the maximum of the results because
//! `multiplier[c] >= 0` (callers flip the signs of a channel's weights where it is not).

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512vnni;
mod portable;
#[cfg(test)]
mod tests;
mod weights;

use crate::ConvGeometry;
use crate::tiles;
use std::ops::Range;
use weights::Form;
pub use weights::PackedWeights;

/// How accumulators become u8. All slices are `[out_channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// Where each accumulator starts: `-zero_point_in · Σ w`.
    pub acc_offset: &'a [i32],
    /// Scale of the accumulator in output steps; not negative.
    pub multiplier: &'a [f32],
    /// Bias in output steps.
    pub bias: &'a [f32],
    /// The output's zero point.
    pub zero_point: i32,
    /// Lowest result; the zero point where a ReLU is fused.
    pub low: u8,
    /// Highest result.
    pub high: u8,
}

/// How accumulators become f32. All slices are `[out_channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Dequantize<'a> {
    /// Where each accumulator starts: `-zero_point_in · Σ w`.
    pub acc_offset: &'a [i32],
    /// Scale of the accumulator; not negative where the geometry pools.
    pub multiplier: &'a [f32],
    /// Bias in real units.
    pub bias: &'a [f32],
    /// Whether negative results become zero.
    pub relu: bool,
}

/// Convolves one image and stores u8: output rows `rows` (after pooling) of `geometry`, row `rows.start` at `out[0]`.
///
/// `input` starts at the view's first element and holds at least `geometry.input_extent() + SLACK` elements (the slack's
/// values do not matter).
///
/// # Panics
/// If the geometry, the weights' shape and the slices do not fit together.
pub fn conv_u8(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    assert!(
        requantize.low <= requantize.high,
        "low must not exceed high"
    );
    let offset = requantize.acc_offset;
    match &weights.form {
        Form::Panels(panels) => {
            let input = tiles::Activations::Bytes(input);
            tiles::conv_u8(panels, geometry, rows, input, requantize, out)
        }
        Form::Codes(codes) => {
            let (shape, lengths) = (&weights.shape(), requantize.lengths());
            tiles::check(shape, geometry, &rows, input.len(), lengths, out.len());
            portable::conv(codes, geometry, rows, input, offset, out, |acc, c| {
                requantize.apply(acc, c)
            });
        }
    }
}

/// Convolves one image and stores f32; otherwise as [`conv_u8`].
///
/// # Panics
/// As [`conv_u8`].
pub fn conv_f32(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    let offset = dequantize.acc_offset;
    match &weights.form {
        Form::Panels(panels) => {
            let input = tiles::Activations::Bytes(input);
            tiles::conv_f32(panels, geometry, rows, input, dequantize, out)
        }
        Form::Codes(codes) => {
            let (shape, lengths) = (&weights.shape(), dequantize.lengths());
            tiles::check(shape, geometry, &rows, input.len(), lengths, out.len());
            portable::conv(codes, geometry, rows, input, offset, out, |acc, c| {
                dequantize.apply(acc, c)
            });
        }
    }
}

impl Requantize<'_> {
    pub(crate) fn lengths(&self) -> [usize; 3] {
        [
            self.acc_offset.len(),
            self.multiplier.len(),
            self.bias.len(),
        ]
    }

    /// Whether the rounding rule may cut at the bounds before it rounds, and add the zero point last: nothing can become NaN,
    /// and the zero point is a byte.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_ordinary(&self, channels: Range<usize>) -> bool {
        let finite = |values: &[f32]| values[channels.clone()].iter().all(|x| x.is_finite());
        (0..=255).contains(&self.zero_point) && finite(self.multiplier) && finite(self.bias)
    }

    /// The rounding rule, for one accumulator of channel `c`.
    #[must_use]
    pub fn apply(&self, acc: i32, c: usize) -> u8 {
        let real = (acc as f32).mul_add(self.multiplier[c], self.bias[c]);
        let level = real.round_ties_even() + self.zero_point as f32;
        level.clamp(f32::from(self.low), f32::from(self.high)) as u8
    }
}

impl Dequantize<'_> {
    pub(crate) fn lengths(&self) -> [usize; 3] {
        [
            self.acc_offset.len(),
            self.multiplier.len(),
            self.bias.len(),
        ]
    }

    /// The result for one accumulator of channel `c`.
    #[must_use]
    pub fn apply(&self, acc: i32, c: usize) -> f32 {
        let real = (acc as f32).mul_add(self.multiplier[c], self.bias[c]);
        // Not `max`, which may return either zero.
        if !self.relu || real > 0.0 { real } else { 0.0 }
    }
}
