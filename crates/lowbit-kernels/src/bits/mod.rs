//! Convolutions of 1-bit activations with 1-bit weights: exclusive or, population count, addition.
//!
//! Activations and weights are −1 or 1. A view holds `[h, w, words]` of u32: channel c in bit `c mod 32` of word
//! `⌊c/32⌋`, set for −1; the bits behind the last channel are zero. A [`ConvGeometry`] counts words, not channels: its
//! `in_channels` and input strides are in words. For n products, Σ x·w = n − 2·popcount(x ⊕ w) (Rastegari et al. 2016,
//! XNOR-Net, section 3.2). Everything else is as in [`qconv`](crate::qconv), with the same epilogues.

mod reference;
#[cfg(test)]
mod tests;

use crate::epilogue::{Dequantize, Requantize};
#[cfg(target_arch = "x86_64")]
use crate::qconv::avx2;
use crate::qconv::dispatch;
use crate::qconv::panels::Panels;
use crate::qconv::run::Activations;
use crate::{ConvGeometry, Isa, WeightShape};
use std::ops::Range;

/// Channels of a word.
pub const WORD_BITS: usize = 32;

/// Words that hold `channels` channels.
#[must_use]
pub fn words(channels: usize) -> usize {
    channels.div_ceil(WORD_BITS)
}

/// Packs `[pixels, channels]` values to `[pixels, words]` signs: a bit is set, meaning −1, where the value is below
/// `threshold`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn pack_signs(isa: Isa, values: &[u8], channels: usize, threshold: u8, out: &mut [u32]) {
    assert!(channels > 0, "a pixel needs channels");
    assert!(
        values.len().is_multiple_of(channels)
            && out.len() == values.len() / channels * words(channels),
        "one word per 32 channels of each pixel"
    );
    #[cfg(target_arch = "x86_64")]
    let isa = isa.avx2();
    let pixels = values.chunks_exact(channels);
    for (pixel, out) in pixels.zip(out.chunks_exact_mut(words(channels))) {
        for (values, word) in pixel.chunks(WORD_BITS).zip(out) {
            *word = match (isa, <&[u8; WORD_BITS]>::try_from(values)) {
                #[cfg(target_arch = "x86_64")]
                (Some(proof), Ok(values)) => avx2::bits::signs(values, threshold, proof),
                _ => reference::signs(values, threshold),
            };
        }
    }
}

/// 1-bit weights in the tile order of one ISA's kernel.
#[derive(Clone, Debug)]
pub struct BitWeights {
    isa: Isa,
    shape: WeightShape,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// `[out, kernel_h, kernel_w, words]`, for the scalar twin.
    Words(Vec<u32>),
    /// In tile order.
    Panels(Panels),
}

impl BitWeights {
    /// Packs the signs of `weights` (`[out, kernel_h, kernel_w, in]`): −1 where negative, else 1.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`, or an output channel has 2³¹ weights.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[i16], shape: WeightShape) -> Self {
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        let signs: Vec<u32> = weights
            .chunks_exact(shape.in_channels.max(1))
            .flat_map(|pixel| pixel.chunks(WORD_BITS))
            .map(|channels| {
                let bit = |(c, &w): (usize, &i16)| u32::from(w < 0) << c;
                channels.iter().enumerate().map(bit).sum()
            })
            .collect();
        let start = i32::try_from(shape.fan_in()).expect("sums are counted in i32");
        let form = match dispatch::pack_signs(isa, &signs, in_words(shape), start) {
            Some(panels) => Form::Panels(panels),
            None => Form::Words(signs),
        };
        Self { isa, shape, form }
    }

    /// The shape that was packed, in channels.
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

/// A shape with words for channels.
fn in_words(shape: WeightShape) -> WeightShape {
    WeightShape {
        in_channels: words(shape.in_channels),
        ..shape
    }
}

/// Convolves one image and stores u8: output rows `rows` (after pooling) of `geometry`, row `rows.start` at `out[0]`.
///
/// `input` starts at the view's first word and holds at least `geometry.input_extent() + SLACK` words (the slack's values
/// do not matter).
///
/// # Panics
/// If the geometry, the weights' shape and the slices do not fit together.
pub fn conv_u8(
    weights: &BitWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[u32],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    match &weights.form {
        Form::Panels(panels) => {
            let input = Activations::Words(input);
            dispatch::conv_u8(panels, geometry, rows, input, requantize, out);
        }
        Form::Words(words) => {
            geometry.check(&in_words(weights.shape), &rows, input.len(), out.len());
            requantize.check(geometry.out_channels);
            let start =
                |c: usize| requantize.acc_offset[c].wrapping_add(weights.shape.fan_in() as i32);
            reference::conv(words, geometry, rows, input, start, out, |acc, c| {
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
    weights: &BitWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[u32],
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    match &weights.form {
        Form::Panels(panels) => {
            let input = Activations::Words(input);
            dispatch::conv_f32(panels, geometry, rows, input, dequantize, out);
        }
        Form::Words(words) => {
            geometry.check(&in_words(weights.shape), &rows, input.len(), out.len());
            dequantize.check(geometry.out_channels);
            let start =
                |c: usize| dequantize.acc_offset[c].wrapping_add(weights.shape.fan_in() as i32);
            reference::conv(words, geometry, rows, input, start, out, |acc, c| {
                dequantize.apply(acc, c)
            });
        }
    }
}
