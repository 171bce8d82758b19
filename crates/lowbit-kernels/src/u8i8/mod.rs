//! Convolutions and products of u8 activations with i8 weights: i32 accumulators, one documented rounding rule.
//!
//! For output channel `c`, `acc[c] = acc_offset[c] + Σ x·w` (exact, i32), then either
//! `clamp(round_ties_even(fma(acc as f32, multiplier[c], bias[c])) + zero_point, low, high)` as u8, or
//! `fma(acc as f32, multiplier[c], bias[c])` as f32. The conversion and the fused multiply-add are correctly rounded on
//! every ISA, so all ISAs agree to the bit. `acc_offset[c] = -zero_point_in · Σ w[c]` makes asymmetric activations exact.
//! Fused max-pooling takes the maximum of the accumulators, which equals the maximum of the results because
//! `multiplier[c] >= 0` (callers flip the signs of a channel's weights where it is not).

#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod portable;
#[cfg(test)]
mod tests;

use crate::tiles::{self, Family, Segments};
use crate::{AlignedBuffer, ConvGeometry, Isa, WeightShape};
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
    /// As given.
    Ohwi(Vec<i8>),
    /// In tile order, for views whose pixels hold the channels read and nothing else, and for all others (none where
    /// one order serves both).
    Panels {
        by_row: AlignedBuffer<i8>,
        by_pixel: Option<AlignedBuffer<i8>>,
    },
}

/// The micro-kernels of an ISA; none where the scalar twin runs.
fn family(isa: Isa) -> Option<&'static Family> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(&avx512vnni::FAMILY),
        _ => None,
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
            form: Form::pack(isa, weights, &shape),
        }
    }

    /// The panels that serve `geometry`, and how its taps fall into segments.
    fn panels(&self, geometry: &ConvGeometry) -> Option<(&AlignedBuffer<i8>, Segments)> {
        let Form::Panels { by_row, by_pixel } = &self.form else {
            return None;
        };
        if geometry.in_pixel_stride == geometry.in_channels || geometry.kernel_w == 1 {
            Some((by_row, Segments::by_row(&self.shape)))
        } else {
            let panels = by_pixel.as_ref().unwrap_or(by_row);
            Some((panels, Segments::by_pixel(&self.shape)))
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

impl Form {
    fn pack(isa: Isa, weights: &[i8], shape: &WeightShape) -> Self {
        let Some(family) = family(isa) else {
            return Form::Ohwi(weights.to_vec());
        };
        let layout = &family.layout;
        let panels = |segments: Segments| {
            let mut panels =
                AlignedBuffer::zeroed(layout.stored_taps(&segments, shape.out_channels));
            for (channel, taps) in weights.chunks_exact(shape.fan_in().max(1)).enumerate() {
                segments.place(channel, shape.out_channels, layout, |to, tap| {
                    panels[to] = taps[tap];
                });
            }
            panels
        };
        let whole_steps = shape.in_channels.is_multiple_of(layout.step_taps);
        Form::Panels {
            by_row: panels(Segments::by_row(shape)),
            by_pixel: (shape.kernel_w > 1 && !whole_steps)
                .then(|| panels(Segments::by_pixel(shape))),
        }
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
    let Requantize {
        acc_offset,
        multiplier,
        bias,
        ..
    } = *requantize;
    assert!(
        requantize.low <= requantize.high,
        "low must not exceed high"
    );
    let per_channel = [acc_offset.len(), multiplier.len(), bias.len()];
    tiles::check(
        &weights.shape,
        geometry,
        &rows,
        input.len(),
        per_channel,
        out.len(),
    );
    match weights.isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            let store = avx512vnni::StoreU8(requantize);
            // SAFETY: `weights.isa` is proof of the ISA.
            unsafe { convolve(weights, geometry, rows, input, acc_offset, &store, out) }
        }
        _ => portable::conv(weights, geometry, rows, input, acc_offset, out, |acc, c| {
            requantize.apply(acc, c)
        }),
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
    let Dequantize {
        acc_offset,
        multiplier,
        bias,
        ..
    } = *dequantize;
    let per_channel = [acc_offset.len(), multiplier.len(), bias.len()];
    tiles::check(
        &weights.shape,
        geometry,
        &rows,
        input.len(),
        per_channel,
        out.len(),
    );
    match weights.isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            let store = avx512vnni::StoreF32(dequantize);
            // SAFETY: `weights.isa` is proof of the ISA.
            unsafe { convolve(weights, geometry, rows, input, acc_offset, &store, out) }
        }
        _ => portable::conv(weights, geometry, rows, input, acc_offset, out, |acc, c| {
            dequantize.apply(acc, c)
        }),
    }
}

/// # Safety
/// The ISA of weights and store is available, and [`tiles::check`] passed for the arguments.
unsafe fn convolve<S: tiles::Store>(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    let family = family(weights.isa).expect("only ISAs with micro-kernels come here");
    let (panels, segments) = weights.panels(geometry).expect("packed for micro-kernels");
    // SAFETY: `panels` was laid out for these segments and this family; the rest is the caller's promise.
    unsafe {
        tiles::run(
            family,
            panels.bytes(),
            segments,
            geometry,
            rows,
            input,
            acc_offset,
            store,
            out,
        )
    }
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
        // Not `max`, which may return either zero.
        if !self.relu || real > 0.0 { real } else { 0.0 }
    }
}
