//! From sums to results with AVX-512: sixteen channels at a time.

use super::{PerChannel, Store, StoredTile, TileSums};
use crate::u8i8::{Dequantize, Requantize};
use std::arch::x86_64::*;
use std::ops::Range;

/// Stores results of [`Requantize`].
pub(super) struct StoreU8<'a>(pub(super) &'a Requantize<'a>);

/// Stores results of [`Dequantize`].
pub(super) struct StoreF32<'a>(pub(super) &'a Dequantize<'a>);

impl Store for StoreU8<'_> {
    type Out = u8;
    type Constants = [PerChannel<f32>; 2];

    fn constants(&self, channels: Range<usize>) -> Self::Constants {
        [self.0.multiplier, self.0.bias].map(|values| PerChannel::of(values, channels.clone()))
    }

    #[inline]
    unsafe fn store(&self, c: &Self::Constants, sums: &TileSums, tile: StoredTile, out: *mut u8) {
        // SAFETY: the caller's promises are the function's.
        unsafe { store_u8(self.0, c, sums, tile, out) }
    }
}

impl Store for StoreF32<'_> {
    type Out = f32;
    type Constants = [PerChannel<f32>; 2];

    fn constants(&self, channels: Range<usize>) -> Self::Constants {
        [self.0.multiplier, self.0.bias].map(|values| PerChannel::of(values, channels.clone()))
    }

    #[inline]
    unsafe fn store(&self, c: &Self::Constants, sums: &TileSums, tile: StoredTile, out: *mut f32) {
        // SAFETY: the caller's promises are the function's.
        unsafe { store_f32(self.0.relu, c, sums, tile, out) }
    }
}

/// A mask of the `left` lowest lanes, 16 at most.
fn lanes(left: usize) -> __mmask16 {
    if left >= 16 { 0xffff } else { (1 << left) - 1 }
}

/// # Safety
/// As [`Store::store`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn store_u8(
    requantize: &Requantize<'_>,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut u8,
) {
    let zero_point = _mm512_set1_ps(requantize.zero_point as f32);
    let low = _mm512_set1_ps(f32::from(requantize.low));
    let high = _mm512_set1_ps(f32::from(requantize.high));
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
                let level =
                    _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(real);
                let level = _mm512_add_ps(level, zero_point);
                // In this order of operands a NaN survives, converts to i32::MIN and is cut to 0, as the scalar twin does.
                let level = _mm512_min_ps(high, _mm512_max_ps(low, level));
                let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(level));
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
/// As [`Store::store`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn store_f32(
    relu: bool,
    constants: &[PerChannel<f32>; 2],
    sums: &TileSums,
    tile: StoredTile,
    out: *mut f32,
) {
    let zero = _mm512_setzero_ps();
    for first in (0..tile.channels).step_by(16) {
        // SAFETY: as in `store_u8`.
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
