//! Convolutions of 1-bit activations with 1-bit weights: exclusive or, population count, addition.
//!
//! Activations and weights are −1 or 1. A view holds `[h, w, words]` of u32: channel c in bit `c mod 32` of word
//! `⌊c/32⌋`, set for −1; the bits behind the last channel are zero. A [`ConvGeometry`] counts words, not channels: its
//! `in_channels` and input strides are in words. For n products, Σ x·w = n − 2·popcount(x ⊕ w) (Rastegari et al. 2016,
//! XNOR-Net, section 3.2). Everything else is as in [`u8i8`](crate::u8i8), with the same epilogues.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use crate::tiles::{self, Activations, Panels};
use crate::u8i8::{Dequantize, Requantize};
use crate::{ConvGeometry, Isa, Level, WeightShape};
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
    let pixels = values.chunks_exact(channels);
    for (pixel, out) in pixels.zip(out.chunks_exact_mut(words(channels))) {
        for (values, word) in pixel.chunks(WORD_BITS).zip(out) {
            *word = match (isa.level(), <&[u8; WORD_BITS]>::try_from(values)) {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: every level but the portable one includes AVX2, and a value of `Isa` is proof of it.
                (isa, Ok(values)) if isa != Level::Portable => unsafe {
                    avx2::signs(values, threshold)
                },
                _ => portable::signs(values, threshold),
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
    /// If `weights.len() != shape.len()`.
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
        Self {
            isa,
            shape,
            form: Form::pack(isa, signs, shape),
        }
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

impl Form {
    fn pack(isa: Isa, signs: Vec<u32>, shape: WeightShape) -> Self {
        #[cfg(target_arch = "x86_64")]
        let family = match isa.level() {
            Level::Avx512 | Level::Amx
                if std::arch::is_x86_feature_detected!("avx512vpopcntdq") =>
            {
                &avx512::FAMILY
            }
            Level::Portable => return Form::Words(signs),
            _ => &avx2::FAMILY,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return Form::Words(signs);
        #[cfg(target_arch = "x86_64")]
        {
            let mut panels = Panels::pack(family, &signs, in_words(shape), |panels, slot, word| {
                let at = slot.block + 4 * slot.lane;
                panels[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            });
            panels.start = shape.fan_in() as i32;
            Form::Panels(panels)
        }
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
    assert!(
        requantize.low <= requantize.high,
        "low must not exceed high"
    );
    match &weights.form {
        Form::Panels(panels) => {
            let input = Activations::Words(input);
            tiles::conv_u8(panels, geometry, rows, input, requantize, out);
        }
        Form::Words(words) => {
            let (shape, lengths) = (in_words(weights.shape), requantize.lengths());
            tiles::check(&shape, geometry, &rows, input.len(), lengths, out.len());
            let start =
                |c: usize| requantize.acc_offset[c].wrapping_add(weights.shape.fan_in() as i32);
            portable::conv(words, geometry, rows, input, start, out, |acc, c| {
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
            tiles::conv_f32(panels, geometry, rows, input, dequantize, out);
        }
        Form::Words(words) => {
            let (shape, lengths) = (in_words(weights.shape), dequantize.lengths());
            tiles::check(&shape, geometry, &rows, input.len(), lengths, out.len());
            let start =
                |c: usize| dequantize.acc_offset[c].wrapping_add(weights.shape.fan_in() as i32);
            portable::conv(words, geometry, rows, input, start, out, |acc, c| {
                dequantize.apply(acc, c)
            });
        }
    }
}
