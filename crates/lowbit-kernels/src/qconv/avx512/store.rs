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
    for first in (0..tile.channels).step_by(16) {
        // SAFETY: `first` is a multiple of 16 below MAX_PANEL, the sums hold `width` values per pixel, a multiple of 16
        // that is larger than `first`; `out` takes `channels` bytes per pixel, and the mask cuts what lies beyond.
        unsafe {
            let multiplier = _mm512_load_ps(constants[0].0.as_ptr().add(first));
            let bias = _mm512_load_ps(constants[1].0.as_ptr().add(first));
            let mask = lanes(tile.channels - first);
            let mut from = sums.0.as_ptr().add(first);
            let mut to = out.add(first);
            for _ in 0..tile.pixels {
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
