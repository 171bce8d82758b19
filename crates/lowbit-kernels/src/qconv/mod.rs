//! Convolutions and products of u8 activations with integer weights of 16, 8, 4, 2 or 1 bit: i32 accumulators, one
//! documented rounding rule.
//!
//! For output channel `c`, `acc[c] = acc_offset[c] + Σ x·w` (exact, i32), then either
//! `clamp(round_ties_even(fma(acc as f32, multiplier[c], bias[c])) + zero_point, low, high)` as u8, or
//! `fma(acc as f32, multiplier[c], bias[c])` as f32. The conversion and the fused multiply-add are correctly rounded on
//! every ISA, so all ISAs agree to the bit. `acc_offset[c] = -zero_point_in · Σ w[c]` makes asymmetric activations exact.
//! Fused max-pooling takes the maximum of the accumulators, which equals the maximum of the results because
//! `multiplier[c] >= 0` (callers flip the signs of a channel's weights where it is not).

//!
//! The algorithms stand here once: `run` is the direct way, `winograd` takes fewer products, `amx` matrix tiles. Each
//! instruction set has a folder of its own with its micro-kernels, and `dispatch` alone knows all of them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avxvnni;
mod codes;
pub(crate) mod dispatch;
mod layout;
mod microkernel;
pub(crate) mod panels;
mod reference;
pub(crate) mod run;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod winograd;

pub use crate::epilogue::{Dequantize, Requantize};
use crate::{ConvGeometry, ImagesGeometry, Isa, WeightShape, WeightWidth};
use codes::Codes;
use panels::Panels;
use run::Activations;
use std::ops::Range;

/// Integer weights in the tile order of one ISA's kernel, at their width: fewer bits are fewer bytes in memory too.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    width: WeightWidth,
    shape: WeightShape,
    sums: Vec<i32>,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// In OHWI order, for the scalar twin.
    Codes(Codes),
    /// In tile order.
    Panels(Panels),
}

impl PackedWeights {
    /// Packs 8-bit `weights` (`[out, kernel_h, kernel_w, in]`) for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[i8], shape: WeightShape) -> Self {
        let weights: Vec<i16> = weights.iter().map(|&w| i16::from(w)).collect();
        Self::pack_width(isa, WeightWidth::Bits8, &weights, shape)
    }

    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`) at `width` bits for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`, or a channel does not [fit](WeightWidth::fits) the width.
    #[must_use]
    pub fn pack_width(isa: Isa, width: WeightWidth, weights: &[i16], shape: WeightShape) -> Self {
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        let channels = weights.chunks_exact(shape.fan_in().max(1));
        for (channel, filter) in channels.clone().enumerate() {
            assert!(
                width.fits(filter),
                "the weights of channel {channel} do not fit {} bits",
                width.bits()
            );
        }
        Self {
            isa,
            width,
            shape,
            sums: channels
                .map(|channel| channel.iter().map(|&w| i32::from(w)).sum())
                .collect(),
            form: match dispatch::pack(isa, width, weights, shape) {
                Some(panels) => Form::Panels(panels),
                None => Form::Codes(Codes::pack(width, weights, shape)),
            },
        }
    }

    /// Σ w per output channel, for [`Requantize::acc_offset`](Requantize::acc_offset).
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

    /// The width that the weights were packed at.
    #[must_use]
    pub fn width(&self) -> WeightWidth {
        self.width
    }

    /// Whether [`conv_images_u8`] and [`conv_images_f32`] take them.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        match &self.form {
            Form::Codes(_) => true,
            Form::Panels(panels) => panels.takes_images(),
        }
    }

    /// The weights in tile order, where an ISA has tiles.
    #[cfg(all(test, target_arch = "x86_64"))]
    pub(crate) fn panels(&self) -> Option<&Panels> {
        match &self.form {
            Form::Panels(panels) => Some(panels),
            Form::Codes(_) => None,
        }
    }

    /// Bytes of the packed weights in memory, padding included.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        match &self.form {
            Form::Codes(codes) => codes.bytes(),
            Form::Panels(panels) => panels.bytes(),
        }
    }
}

/// Convolves one image and stores u8: output rows `rows` (after pooling) of `geometry`, row `rows.start` at `out[0]`.
///
/// `input` starts at the view's first element and holds at least `geometry.input_extent() + SLACK` elements (the slack's
/// values do not matter).
///
/// # Panics
/// If the geometry, the weights' shape, the constants and the slices do not fit together.
pub fn conv_u8(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    let offset = requantize.acc_offset;
    match &weights.form {
        Form::Panels(panels) => {
            let input = Activations::Bytes(input);
            dispatch::conv_u8(panels, geometry, rows, input, requantize, out)
        }
        Form::Codes(codes) => {
            geometry.check(&weights.shape, &rows, input.len(), out.len());
            requantize.check(geometry.out_channels);
            reference::conv(codes, geometry, rows, input, offset, out, |acc, c| {
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
            let input = Activations::Bytes(input);
            dispatch::conv_f32(panels, geometry, rows, input, dequantize, out)
        }
        Form::Codes(codes) => {
            geometry.check(&weights.shape, &rows, input.len(), out.len());
            dequantize.check(geometry.out_channels);
            reference::conv(codes, geometry, rows, input, offset, out, |acc, c| {
                dequantize.apply(acc, c)
            });
        }
    }
}

/// Convolves several images at once and stores u8; `input` and `out` begin at the first one's view. What lies in the border is
/// left out: `requantize.acc_offset` is `[window, out_channels]` with the windows of [`ImagesGeometry::windows`], so that it can
/// hold what padding adds to each.
///
/// # Panics
/// If the geometry, the weights' shape, the constants and the slices do not fit together, or the weights are not those of
/// [`PackedWeights::takes_images`].
pub fn conv_images_u8(
    weights: &PackedWeights,
    geometry: &ImagesGeometry,
    input: &[u8],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    match &weights.form {
        Form::Panels(panels) => {
            dispatch::conv_images_u8(panels, geometry, Activations::Bytes(input), requantize, out);
        }
        Form::Codes(codes) => {
            geometry.check(&weights.shape, input.len(), out.len());
            requantize.check_windows(geometry.image.out_channels, geometry.window_count());
            let offset = requantize.acc_offset;
            reference::conv_images(codes, geometry, input, offset, out, |acc, c| {
                requantize.apply(acc, c)
            });
        }
    }
}

/// Convolves several images at once and stores f32; otherwise as [`conv_images_u8`].
///
/// # Panics
/// As [`conv_images_u8`].
pub fn conv_images_f32(
    weights: &PackedWeights,
    geometry: &ImagesGeometry,
    input: &[u8],
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    match &weights.form {
        Form::Panels(panels) => {
            dispatch::conv_images_f32(panels, geometry, Activations::Bytes(input), dequantize, out);
        }
        Form::Codes(codes) => {
            geometry.check(&weights.shape, input.len(), out.len());
            dequantize.check_windows(geometry.image.out_channels, geometry.window_count());
            let offset = dequantize.acc_offset;
            reference::conv_images(codes, geometry, input, offset, out, |acc, c| {
                dequantize.apply(acc, c)
            });
        }
    }
}
