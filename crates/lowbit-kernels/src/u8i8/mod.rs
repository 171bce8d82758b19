//! Convolutions and products of u8 activations with i8 weights: i32 accumulators, one documented rounding rule.
//!
//! For output channel `c`, `acc[c] = acc_offset[c] + Σ x·w` (exact, i32), then either
//! `clamp(round_ties_even(fma(acc as f32, multiplier[c], bias[c])) + zero_point, low, high)` as u8, or
//! `fma(acc as f32, multiplier[c], bias[c])` as f32. The conversion and the fused multiply-add are correctly rounded on
//! every ISA, so all ISAs agree to the bit. `acc_offset[c] = -zero_point_in · Σ w[c]` makes asymmetric activations exact.
//! Fused max-pooling takes the maximum of the accumulators, which equals the maximum of the results because
//! `multiplier[c] >= 0` (callers flip the signs of a channel's weights where it is not).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod portable;
#[cfg(test)]
mod tests;

use crate::tiles::{self, Panels};
use crate::{ConvGeometry, Isa, WeightShape};
use std::ops::Range;

/// i8 weights in the tile order of one ISA's kernel.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    shape: WeightShape,
    sums: Vec<i32>,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// As given, for the scalar twin.
    Ohwi(Vec<i8>),
    /// In tile order.
    Panels(Panels),
}

impl Form {
    fn pack(isa: Isa, weights: &[i8], shape: WeightShape) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Form::Panels(Panels::pack(
                &avx512vnni::FAMILY,
                weights,
                shape,
                |panels, slot, weight| panels[slot.index(4)] = weight as u8,
            )),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Form::Panels(Panels::pack(
                &avx2::FAMILY,
                weights,
                shape,
                |panels, slot, weight| {
                    let at = 2 * slot.index(2);
                    panels[at..at + 2].copy_from_slice(&i16::from(weight).to_ne_bytes());
                },
            )),
            _ => Form::Ohwi(weights.to_vec()),
        }
    }
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
            form: Form::pack(isa, weights, shape),
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
    assert!(
        requantize.low <= requantize.high,
        "low must not exceed high"
    );
    match &weights.form {
        Form::Panels(panels) => tiles::conv_u8(panels, geometry, rows, input, requantize, out),
        Form::Ohwi(ohwi) => {
            let (shape, lengths) = (&weights.shape, requantize.lengths());
            tiles::check(shape, geometry, &rows, input.len(), lengths, out.len());
            let offset = requantize.acc_offset;
            portable::conv(ohwi, geometry, rows, input, offset, out, |acc, c| {
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
    match &weights.form {
        Form::Panels(panels) => tiles::conv_f32(panels, geometry, rows, input, dequantize, out),
        Form::Ohwi(ohwi) => {
            let (shape, lengths) = (&weights.shape, dequantize.lengths());
            tiles::check(shape, geometry, &rows, input.len(), lengths, out.len());
            let offset = dequantize.acc_offset;
            portable::conv(ohwi, geometry, rows, input, offset, out, |acc, c| {
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
