//! From sums to results with AVX2: eight channels at a time.

use crate::epilogue::avx2::{Factors, Levels};
use crate::epilogue::{Dequantize, Requantize};
use crate::proof::Avx2;
use crate::qconv::microkernel::{PerChannel, Store, StoredTile, TileSums};
use std::arch::x86_64::*;
use std::ops::Range;

/// Stores results of [`Requantize`].
pub(in crate::qconv) struct StoreU8<'a>(
    pub(in crate::qconv) &'a Requantize<'a>,
    pub(in crate::qconv) Avx2,
);

/// Stores results of [`Dequantize`].
pub(in crate::qconv) struct StoreF32<'a>(
    pub(in crate::qconv) &'a Dequantize<'a>,
    pub(in crate::qconv) Avx2,
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
                true if tile.channels == 16 && tile.width == 16 => {
                    requantize_16_avx2(self.0, constants, sums, tile, out);
                }
                true => requantize_avx2::<true>(self.0, constants, sums, tile, out),
                false => requantize_avx2::<false>(self.0, constants, sums, tile, out),
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
        unsafe { dequantize_avx2(self.0.relu, c, sums, tile, out) }
    }
}

/// Whole panels of two vectors with ordinary constants: two pixels at a time.
///
/// # Safety
/// As [`Store::store`], the features are available, and there are 16 channels in the tile and in the sums.
#[target_feature(enable = "avx2,fma")]
unsafe fn requantize_16_avx2(
    requantize: &Requantize<'_>,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut u8,
) {
    let levels = Levels::new(requantize);
    // SAFETY: (whole body) constants have MAX_PANEL numbers; the sums hold 16 values per pixel, and `out` takes as many bytes.
    let factors = |first: usize| unsafe {
        Factors {
            multiplier: _mm256_load_ps(constants[0].0.as_ptr().add(first)),
            bias: _mm256_load_ps(constants[1].0.as_ptr().add(first)),
        }
    };
    let [near, far] = [factors(0), factors(8)];
    let mut to = out;
    for pixel in (0..tile.pixels).step_by(2) {
        // The last one of an odd number is taken twice.
        let next = (pixel + 1).min(tile.pixels - 1);
        unsafe {
            let of = |pixel: usize, vector: usize| {
                _mm256_load_si256(sums.0.as_ptr().add(pixel * 16 + vector * 8).cast())
            };
            let four = [of(pixel, 0), of(pixel, 1), of(next, 0), of(next, 1)];
            let bytes = levels.of([near, far, near, far], four);
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes));
            if next > pixel {
                let second = _mm256_extracti128_si256::<1>(bytes);
                _mm_storeu_si128(to.add(tile.pixel_stride).cast(), second);
            }
        }
        to = to.wrapping_add(2 * tile.pixel_stride);
    }
}

/// `ORDINARY` constants allow cutting first, which leaves rounding to the conversion.
///
/// # Safety
/// As [`Store::store`], and the features are available.
#[target_feature(enable = "avx2,fma")]
unsafe fn requantize_avx2<const ORDINARY: bool>(
    requantize: &Requantize<'_>,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut u8,
) {
    let zero_point = requantize.zero_point as f32;
    let bound = |level: u8| {
        let below = if ORDINARY { zero_point } else { 0.0 };
        _mm256_set1_ps(f32::from(level) - below)
    };
    let (low, high) = (bound(requantize.low), bound(requantize.high));
    let zero_point = _mm256_set1_ps(zero_point);
    let whole_zero = _mm256_set1_epi32(requantize.zero_point);
    for first in (0..tile.channels).step_by(8) {
        // SAFETY: `first` is a multiple of 8 below MAX_PANEL, the sums hold `width` values per pixel, a multiple of 8
        // that is larger than `first`; `out` takes `channels` bytes per pixel, and no more than the rest is written.
        unsafe {
            let multiplier = _mm256_load_ps(constants[0].0.as_ptr().add(first));
            let bias = _mm256_load_ps(constants[1].0.as_ptr().add(first));
            let left = tile.channels - first;
            let mut from = sums.0.as_ptr().add(first);
            let mut to = out.add(first);
            for _ in 0..tile.pixels {
                let acc = _mm256_cvtepi32_ps(_mm256_load_si256(from.cast()));
                let real = _mm256_fmadd_ps(acc, multiplier, bias);
                let level = if ORDINARY {
                    real
                } else {
                    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
                    _mm256_add_ps(_mm256_round_ps::<NEAREST>(real), zero_point)
                };
                // In this order of operands a NaN survives, converts to i32::MIN and saturates to 0, as in the scalar
                // twin.
                let level = _mm256_min_ps(high, _mm256_max_ps(low, level));
                let mut level = _mm256_cvtps_epi32(level);
                if ORDINARY {
                    level = _mm256_add_epi32(level, whole_zero);
                }
                let (near, far) = (
                    _mm256_castsi256_si128(level),
                    _mm256_extracti128_si256::<1>(level),
                );
                let words = _mm_packs_epi32(near, far);
                let bytes = _mm_packus_epi16(words, words);
                if left >= 8 {
                    _mm_storel_epi64(to.cast(), bytes);
                } else {
                    let bytes = _mm_cvtsi128_si64(bytes).to_le_bytes();
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, left);
                }
                from = from.wrapping_add(tile.width);
                to = to.wrapping_add(tile.pixel_stride);
            }
        }
    }
}

/// # Safety
/// As [`Store::store`], and the features are available.
#[target_feature(enable = "avx2,fma")]
unsafe fn dequantize_avx2(
    relu: bool,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut f32,
) {
    let zero = _mm256_setzero_ps();
    for first in (0..tile.channels).step_by(8) {
        // SAFETY: as in `requantize_avx2`.
        unsafe {
            let multiplier = _mm256_load_ps(constants[0].0.as_ptr().add(first));
            let bias = _mm256_load_ps(constants[1].0.as_ptr().add(first));
            let left = tile.channels - first;
            let mut from = sums.0.as_ptr().add(first);
            let mut to = out.add(first);
            for _ in 0..tile.pixels {
                let acc = _mm256_cvtepi32_ps(_mm256_load_si256(from.cast()));
                let mut real = _mm256_fmadd_ps(acc, multiplier, bias);
                if relu {
                    real = _mm256_max_ps(real, zero);
                }
                if left >= 8 {
                    _mm256_storeu_ps(to, real);
                } else {
                    let mut lanes = [0.0f32; 8];
                    _mm256_storeu_ps(lanes.as_mut_ptr(), real);
                    std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, left);
                }
                from = from.wrapping_add(tile.width);
                to = to.wrapping_add(tile.pixel_stride);
            }
        }
    }
}
