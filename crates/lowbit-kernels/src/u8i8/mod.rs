//! Convolutions and products of u8 activations with i8 weights: i32 accumulators, one documented rounding rule.
//!
//! For output channel `c`, `acc[c] = acc_offset[c] + Σ x·w` (exact, i32), then either
//! `clamp(round_ties_even(fma(acc as f32, multiplier[c], bias[c])) + zero_point, low, high)` as u8, or
//! `fma(acc as f32, multiplier[c], bias[c])` as f32. The conversion and the fused multiply-add are correctly rounded on
//! every ISA, so all ISAs agree to the bit. `acc_offset[c] = -zero_point_in · Σ w[c]` makes asymmetric activations exact.
//! Fused max-pooling takes the maximum of the accumulators, which equals the maximum of the results because
//! `multiplier[c] >= 0` (callers flip the signs of a channel's weights where it is not).

mod portable;

use crate::{ConvGeometry, Isa, WeightShape};
use std::ops::Range;

/// i8 weights in the tile order of one ISA's kernel.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    shape: WeightShape,
    sums: Vec<i32>,
    ohwi: Vec<i8>,
}

impl PackedWeights {
    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`) for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[i8], shape: WeightShape) -> Self {
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        let sums = weights
            .chunks_exact(shape.fan_in().max(1))
            .map(|channel| channel.iter().map(|&w| i32::from(w)).sum())
            .collect();
        Self {
            isa,
            shape,
            sums,
            ohwi: weights.to_vec(),
        }
    }

    /// Σ w per output channel, for [`Requantize::acc_offset`].
    #[must_use]
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// The shape that was packed.
    #[must_use]
    pub fn shape(&self) -> WeightShape {
        self.shape
    }

    /// The ISA that the weights are packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

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
    portable::conv(
        weights,
        geometry,
        rows,
        input,
        requantize.acc_offset,
        out,
        |acc, c| requantize.apply(acc, c),
    );
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
    portable::conv(
        weights,
        geometry,
        rows,
        input,
        dequantize.acc_offset,
        out,
        |acc, c| dequantize.apply(acc, c),
    );
}

impl Requantize<'_> {
    /// The rounding rule, for one accumulator of channel `c`.
    #[must_use]
    pub fn apply(&self, acc: i32, c: usize) -> u8 {
        let real = (acc as f32).mul_add(self.multiplier[c], self.bias[c]);
        let level = real.round_ties_even() + self.zero_point as f32;
        level.clamp(f32::from(self.low), f32::from(self.high)) as u8
    }
}

impl Dequantize<'_> {
    /// The result for one accumulator of channel `c`.
    #[must_use]
    pub fn apply(&self, acc: i32, c: usize) -> f32 {
        let real = (acc as f32).mul_add(self.multiplier[c], self.bias[c]);
        if self.relu { real.max(0.0) } else { real }
    }
}
