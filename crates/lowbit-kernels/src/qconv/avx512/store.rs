//! From sums to results with AVX-512: sixteen channels at a time.

use crate::epilogue::{Dequantize, Requantize};
use crate::proof::Avx512;
use crate::qconv::microkernel::{PerChannel, Store, StoredTile, TileSums};
use std::arch::x86_64::*;
use std::ops::Range;

/// Stores results of [`Requantize`].
pub(in crate::qconv) struct StoreU8<'a>(
    pub(in crate::qconv) &'a Requantize<'a>,
    pub(in crate::qconv) Avx512,
);

/// Stores results of [`Dequantize`].
pub(in crate::qconv) struct StoreF32<'a>(
    pub(in crate::qconv) &'a Dequantize<'a>,
    pub(in crate::qconv) Avx512,
);

impl Store for StoreU8<'_> {
    type Out = u8;
    type Constants = ([PerChannel<f32>; 2], bool);

    fn constants(&self, channels: Range<usize>) -> Self::Constants {
        let factors = [self.0.multiplier, self.0.bias];
        let ordinary = self.0.is_ordinary(channels.clone());
        (PerChannel::of_each(factors, channels), ordinary)
    }

    #[inline]
    unsafe fn store(&self, c: &Self::Constants, sums: &TileSums, tile: StoredTile, out: *mut u8) {
        let (constants, ordinary) = c;
        // SAFETY: this value holds the proof of the instruction set; the caller's promises are the function's.
        unsafe {
            match ordinary {
                true => requantize_avx512::<true>(self.0, constants, sums, tile, out),
                false => requantize_avx512::<false>(self.0, constants, sums, tile, out),
            }
        }
    }
}

impl Store for StoreF32<'_> {
    type Out = f32;
    type Constants = [PerChannel<f32>; 2];

    fn constants(&self, channels: Range<usize>) -> Self::Constants {
        PerChannel::of_each([self.0.multiplier, self.0.bias], channels)
    }

    #[inline]
    unsafe fn store(&self, c: &Self::Constants, sums: &TileSums, tile: StoredTile, out: *mut f32) {
        // SAFETY: this value holds the proof of the instruction set; the caller's promises are the function's.
        unsafe { dequantize_avx512(self.0.relu, c, sums, tile, out) }
    }
}

/// A mask of the `left` lowest lanes, 16 at most.
fn lanes(left: usize) -> __mmask16 {
    if left >= 16 { 0xffff } else { (1 << left) - 1 }
}

/// Stores as many whole fours of vectors as there are, for [ordinary](Requantize::is_ordinary) constants and whole panels, and
/// returns how many pixels these were. Numbers are cut last, when they are narrow: one above 2³⁰ is far beyond every level, one
/// that does not fit i32 from below becomes i32::MIN, and narrowing saturates.
///
/// # Safety
/// As [`Store::store`], for 16 or 32 channels, all of the sums', and the features are available.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn requantize_fours(
    requantize: &Requantize<'_>,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut u8,
) -> usize {
    let low = _mm512_set1_epi8(requantize.low.cast_signed());
    let high = _mm512_set1_epi8(requantize.high.cast_signed());
    let zero_point = _mm512_set1_epi16(requantize.zero_point as i16);
    let large = _mm512_set1_ps(1_073_741_824.0);
    // Narrowing twice leaves four of each vector side by side.
    let in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let is_wide = tile.width == 32;
    let at_once = if is_wide { 2 } else { 4 };
    let second = tile.width - 16;
    // SAFETY: (whole body) the sums hold `width` values per pixel, and `out` takes as many bytes of each.
    unsafe {
        let load = |of: usize, at: usize| _mm512_load_ps(constants[of].0.as_ptr().add(at));
        let [multiplier, bias] = [0, 1].map(|of| [load(of, 0), load(of, second)]);
        let mut from = sums.0.as_ptr();
        let mut to = out;
        for _ in 0..tile.pixels / at_once {
            let whole = |vector: usize| {
                let acc = _mm512_cvtepi32_ps(_mm512_load_si512(from.add(16 * vector).cast()));
                let real = _mm512_fmadd_ps(acc, multiplier[vector % 2], bias[vector % 2]);
                _mm512_cvtps_epi32(_mm512_min_ps(real, large))
            };
            let words = |vector: usize| {
                let words = _mm512_packs_epi32(whole(vector), whole(vector + 1));
                _mm512_adds_epi16(words, zero_point)
            };
            let bytes = _mm512_packus_epi16(words(0), words(2));
            let bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, low), high);
            let bytes = _mm512_permutexvar_epi32(in_order, bytes);
            let (near, far) = (
                _mm512_castsi512_si256(bytes),
                _mm512_extracti64x4_epi64::<1>(bytes),
            );
            if is_wide {
                _mm256_storeu_si256(to.cast(), near);
                _mm256_storeu_si256(to.add(tile.pixel_stride).cast(), far);
            } else {
                let quarters = [
                    _mm256_castsi256_si128(near),
                    _mm256_extracti128_si256::<1>(near),
                    _mm256_castsi256_si128(far),
                    _mm256_extracti128_si256::<1>(far),
                ];
                for (pixel, quarter) in quarters.into_iter().enumerate() {
                    _mm_storeu_si128(to.add(pixel * tile.pixel_stride).cast(), quarter);
                }
            }
            from = from.wrapping_add(64);
            to = to.wrapping_add(at_once * tile.pixel_stride);
        }
    }
    tile.pixels / at_once * at_once
}

/// `ORDINARY` constants allow cutting first, which leaves rounding to the conversion.
///
/// # Safety
/// As [`Store::store`], and the features are available.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn requantize_avx512<const ORDINARY: bool>(
    requantize: &Requantize<'_>,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut u8,
) {
    let zero_point = requantize.zero_point as f32;
    let bound = |level: u8| {
        let below = if ORDINARY { zero_point } else { 0.0 };
        _mm512_set1_ps(f32::from(level) - below)
    };
    let (low, high) = (bound(requantize.low), bound(requantize.high));
    let zero_point = _mm512_set1_ps(zero_point);
    let zero_byte = _mm_set1_epi8(requantize.zero_point as i8);
    let done = match ORDINARY && tile.channels == tile.width {
        // SAFETY: the caller's promises.
        true => unsafe { requantize_fours(requantize, constants, sums, tile, out) },
        false => 0,
    };
    for first in (0..tile.channels).step_by(16) {
        // SAFETY: `first` is a multiple of 16 below MAX_PANEL, the sums hold `width` values per pixel, a multiple of 16
        // that is larger than `first`; `out` takes `channels` bytes per pixel, and the mask cuts what lies beyond.
        unsafe {
            let multiplier = _mm512_load_ps(constants[0].0.as_ptr().add(first));
            let bias = _mm512_load_ps(constants[1].0.as_ptr().add(first));
            let mask = lanes(tile.channels - first);
            // Of no pixels there is no element.
            let mut from = sums.0.as_ptr().wrapping_add(done * tile.width + first);
            let mut to = out.wrapping_add(done * tile.pixel_stride + first);
            for _ in done..tile.pixels {
                let acc = _mm512_cvtepi32_ps(_mm512_load_si512(from.cast()));
                let real = _mm512_fmadd_ps(acc, multiplier, bias);
                let level = if ORDINARY {
                    real
                } else {
                    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
                    _mm512_add_ps(_mm512_roundscale_ps::<NEAREST>(real), zero_point)
                };
                // In this order of operands a NaN survives, converts to i32::MIN and is cut to 0, as the scalar twin does.
                let level = _mm512_min_ps(high, _mm512_max_ps(low, level));
                let mut bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(level));
                if ORDINARY {
                    bytes = _mm_add_epi8(bytes, zero_byte);
                }
                if mask == 0xffff {
                    _mm_storeu_si128(to.cast(), bytes);
                } else {
                    _mm_mask_storeu_epi8(to.cast(), mask, bytes);
                }
                from = from.wrapping_add(tile.width);
                to = to.wrapping_add(tile.pixel_stride);
            }
        }
    }
}

/// # Safety
/// As [`Store::store`], and the features are available.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn dequantize_avx512(
    relu: bool,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut f32,
) {
    let zero = _mm512_setzero_ps();
    for first in (0..tile.channels).step_by(16) {
        // SAFETY: as in `requantize_avx512`.
        unsafe {
            let multiplier = _mm512_load_ps(constants[0].0.as_ptr().add(first));
            let bias = _mm512_load_ps(constants[1].0.as_ptr().add(first));
            let mask = lanes(tile.channels - first);
            let mut from = sums.0.as_ptr().add(first);
            let mut to = out.add(first);
            for _ in 0..tile.pixels {
                let acc = _mm512_cvtepi32_ps(_mm512_load_si512(from.cast()));
                let mut real = _mm512_fmadd_ps(acc, multiplier, bias);
                if relu {
                    real = _mm512_max_ps(real, zero);
                }
                _mm512_mask_storeu_ps(to, mask, real);
                from = from.wrapping_add(tile.width);
                to = to.wrapping_add(tile.pixel_stride);
            }
        }
    }
}
