//! From sums to results: eight channels of a few pixels.

use super::super::ChannelConstants;
use super::super::pack::BLOCK;
use super::{Dequantize, Requantize};
use crate::epilogue::avx2::{ByteRule, Factors, in_order};
use std::arch::x86_64::*;

/// The constants of eight channels.
pub(super) struct Constants {
    pub(super) start: __m256i,
    factors: Factors,
}

impl Constants {
    /// # Safety
    /// AVX2 is available.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn new(of: ChannelConstants<'_>, first: usize) -> Self {
        // SAFETY: (of each load) eight numbers are there.
        let factors = Factors {
            multiplier: eight(of.multiplier, first, |at| unsafe { _mm256_loadu_ps(at) }),
            bias: eight(of.bias, first, |at| unsafe { _mm256_loadu_ps(at) }),
        };
        let start = eight(of.start, first, |at| unsafe {
            _mm256_loadu_si256(at.cast())
        });
        Self { start, factors }
    }
}

/// Eight numbers from `first` on, zeros behind the last one; `load` reads as many.
#[inline(always)]
fn eight<T: Copy + Default, V>(of: &[T], first: usize, load: impl Fn(*const T) -> V) -> V {
    let rest = &of[first..];
    if rest.len() >= BLOCK {
        return load(rest.as_ptr());
    }
    let mut lanes = [T::default(); BLOCK];
    lanes[..rest.len()].copy_from_slice(rest);
    load(lanes.as_ptr())
}

/// What becomes of the sums of eight channels.
pub(super) trait Store {
    type Out;

    /// Stores the first `lanes` channels of some pixels.
    ///
    /// # Safety
    /// AVX2 and FMA are available; `to` is writable for that many channels of each pixel, `stride` apart.
    unsafe fn store(
        &self,
        constants: &Constants,
        sums: &[__m256i],
        lanes: usize,
        to: *mut Self::Out,
        stride: usize,
    );
}

/// Stores bytes.
pub(super) struct Bytes<'a> {
    requantize: &'a Requantize<'a>,
    /// Where the constants of all channels are ordinary.
    rule: Option<ByteRule>,
}

impl<'a> Bytes<'a> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(requantize: &'a Requantize<'a>, channels: usize) -> Self {
        let is_ordinary = requantize.is_ordinary(0..channels);
        Self {
            requantize,
            rule: is_ordinary.then(|| ByteRule::new(requantize)),
        }
    }
}

impl Store for Bytes<'_> {
    type Out = u8;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(
        &self,
        constants: &Constants,
        sums: &[__m256i],
        lanes: usize,
        to: *mut u8,
        stride: usize,
    ) {
        let (fours, rest) = sums.as_chunks::<4>();
        let mut to = to;
        for &four in fours {
            let bytes = match &self.rule {
                Some(rule) => rule.of([constants.factors; 4], four),
                None => careful(self.requantize, constants, four),
            };
            // SAFETY: the caller's promise.
            unsafe { write::<4>(bytes, lanes, to, stride) };
            to = to.wrapping_add(4 * stride);
        }
        let four = match *rest {
            [] => return,
            [a] => [a; 4],
            [a, b] => [a, b, b, b],
            [a, b, c, ..] => [a, b, c, c],
        };
        let bytes = match &self.rule {
            Some(rule) => rule.of([constants.factors; 4], four),
            None => careful(self.requantize, constants, four),
        };
        // SAFETY: the caller's promise.
        unsafe {
            match rest.len() {
                1 => write::<1>(bytes, lanes, to, stride),
                2 => write::<2>(bytes, lanes, to, stride),
                _ => write::<3>(bytes, lanes, to, stride),
            }
        }
    }
}

/// Writes the first `lanes` of the eight bytes of each of `N` pixels.
///
/// # Safety
/// AVX2 is available; `to` is writable for as many bytes of each pixel, `stride` apart.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn write<const N: usize>(bytes: __m256i, lanes: usize, to: *mut u8, stride: usize) {
    let near = _mm256_castsi256_si128(bytes);
    let far = _mm256_extracti128_si256::<1>(bytes);
    // SAFETY: the caller's promise; no more than `lanes` bytes of a pixel are written.
    unsafe {
        if lanes == BLOCK {
            _mm_storel_epi64(to.cast(), near);
            if N > 1 {
                _mm_storeh_pd(to.add(stride).cast(), _mm_castsi128_pd(near));
            }
            if N > 2 {
                _mm_storel_epi64(to.add(2 * stride).cast(), far);
            }
            if N > 3 {
                _mm_storeh_pd(to.add(3 * stride).cast(), _mm_castsi128_pd(far));
            }
        } else {
            let mut all = [0u8; 4 * BLOCK];
            _mm256_storeu_si256(all.as_mut_ptr().cast(), bytes);
            for (p, pixel) in all.chunks_exact(BLOCK).take(N).enumerate() {
                let to = to.add(p * stride);
                std::ptr::copy_nonoverlapping(pixel.as_ptr(), to, lanes);
            }
        }
    }
}

/// The bytes of four pixels, whatever the constants are.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn careful(requantize: &Requantize<'_>, constants: &Constants, sums: [__m256i; 4]) -> __m256i {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let low = _mm256_set1_ps(f32::from(requantize.low));
    let high = _mm256_set1_ps(f32::from(requantize.high));
    let zero_point = _mm256_set1_ps(requantize.zero_point as f32);
    let factors = constants.factors;
    let [a, b, c, d] = sums.map(|sum| {
        let acc = _mm256_cvtepi32_ps(sum);
        let real = _mm256_fmadd_ps(acc, factors.multiplier, factors.bias);
        let real = _mm256_add_ps(_mm256_round_ps::<NEAREST>(real), zero_point);
        // In this order of operands a NaN survives, converts to i32::MIN and saturates to 0, as in the scalar twin.
        let real = _mm256_min_ps(high, _mm256_max_ps(low, real));
        _mm256_cvtps_epi32(real)
    });
    let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    in_order(bytes)
}

impl Store for Dequantize<'_> {
    type Out = f32;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(
        &self,
        constants: &Constants,
        sums: &[__m256i],
        lanes: usize,
        to: *mut f32,
        stride: usize,
    ) {
        let factors = constants.factors;
        for (p, &sum) in sums.iter().enumerate() {
            let acc = _mm256_cvtepi32_ps(sum);
            let mut real = _mm256_fmadd_ps(acc, factors.multiplier, factors.bias);
            if self.relu {
                // A zero that is not positive becomes +0, as in the scalar twin.
                real = _mm256_max_ps(real, _mm256_setzero_ps());
            }
            // SAFETY: the caller's promise; no more than `lanes` numbers of a pixel are written.
            unsafe {
                let to = to.add(p * stride);
                if lanes == BLOCK {
                    _mm256_storeu_ps(to, real);
                } else {
                    let mut all = [0.0f32; BLOCK];
                    _mm256_storeu_ps(all.as_mut_ptr(), real);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), to, lanes);
                }
            }
        }
    }
}
