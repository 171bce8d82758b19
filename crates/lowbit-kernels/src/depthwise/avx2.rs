//! u8 with AVX2: two taps of eight channels at a time, widened to 16 bits and multiplied and added in pairs. Exact.

use super::pack::BLOCK;
use super::{DepthwiseGeometry, Dequantize, IntegerWeights, Requantize};
use crate::geometry::even_parts;
use std::arch::x86_64::*;
use std::ops::Range;

/// Most pixels of a tile.
const MOST: usize = 6;

/// The constants of eight channels.
struct Constants {
    start: __m256i,
    multiplier: __m256,
    bias: __m256,
}

impl Constants {
    /// # Safety
    /// AVX2 is available.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn new(acc_offset: &[i32], multiplier: &[f32], bias: &[f32], first: usize) -> Self {
        fn eight<T: Copy + Default>(of: &[T], first: usize) -> [T; BLOCK] {
            let rest = &of[first..];
            let mut lanes = [T::default(); BLOCK];
            let count = rest.len().min(BLOCK);
            lanes[..count].copy_from_slice(&rest[..count]);
            lanes
        }
        let (start, multiplier) = (eight(acc_offset, first), eight(multiplier, first));
        let bias = eight(bias, first);
        // SAFETY: each has eight lanes.
        unsafe {
            Self {
                start: _mm256_loadu_si256(start.as_ptr().cast()),
                multiplier: _mm256_loadu_ps(multiplier.as_ptr()),
                bias: _mm256_loadu_ps(bias.as_ptr()),
            }
        }
    }
}

/// What becomes of the sums of eight channels.
trait Store {
    type Out;

    fn constants(&self) -> [&[f32]; 2];

    fn acc_offset(&self) -> &[i32];

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

impl Store for Requantize<'_> {
    type Out = u8;

    fn constants(&self) -> [&[f32]; 2] {
        [self.multiplier, self.bias]
    }

    fn acc_offset(&self) -> &[i32] {
        self.acc_offset
    }

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
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        let (low, high) = (
            _mm256_set1_ps(f32::from(self.low)),
            _mm256_set1_ps(f32::from(self.high)),
        );
        let zero_point = _mm256_set1_ps(self.zero_point as f32);
        let level = |sum: __m256i| {
            let acc = _mm256_cvtepi32_ps(sum);
            let real = _mm256_fmadd_ps(acc, constants.multiplier, constants.bias);
            let level = _mm256_add_ps(_mm256_round_ps::<NEAREST>(real), zero_point);
            // In this order of operands a NaN survives, converts to i32::MIN and saturates to 0, as in the scalar twin.
            let level = _mm256_min_ps(high, _mm256_max_ps(low, level));
            _mm256_cvtps_epi32(level)
        };
        // Four channels of one pixel and four of the other, twice: brought into the order of the pixels.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for (pair, sums) in sums.chunks(2).enumerate() {
            let (a, b) = (level(sums[0]), level(sums[sums.len() - 1]));
            let words = _mm256_packs_epi32(a, b);
            let bytes = _mm256_packus_epi16(words, words);
            let bytes = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order));
            // SAFETY: the caller's promise; no more than `lanes` bytes of a pixel are written.
            unsafe {
                let first = to.add(2 * pair * stride);
                if lanes == BLOCK {
                    _mm_storel_epi64(first.cast(), bytes);
                    if sums.len() == 2 {
                        let second = _mm_unpackhi_epi64(bytes, bytes);
                        _mm_storel_epi64(first.add(stride).cast(), second);
                    }
                } else {
                    let mut all = [0u8; 16];
                    _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                    for (p, pixel) in all.chunks_exact(BLOCK).take(sums.len()).enumerate() {
                        let to = first.add(p * stride);
                        std::ptr::copy_nonoverlapping(pixel.as_ptr(), to, lanes);
                    }
                }
            }
        }
    }
}

impl Store for Dequantize<'_> {
    type Out = f32;

    fn constants(&self) -> [&[f32]; 2] {
        [self.multiplier, self.bias]
    }

    fn acc_offset(&self) -> &[i32] {
        self.acc_offset
    }

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
        for (p, &sum) in sums.iter().enumerate() {
            let acc = _mm256_cvtepi32_ps(sum);
            let mut real = _mm256_fmadd_ps(acc, constants.multiplier, constants.bias);
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

/// # Safety
/// AVX2 and FMA are available, and [`DepthwiseGeometry::check`] and [`Requantize::check`] passed for the arguments.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_u8(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[u8],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    // SAFETY: the caller's promises.
    unsafe { conv(weights, g, rectangle, input, requantize, out.as_mut_ptr()) }
}

/// # Safety
/// AVX2 and FMA are available, and [`DepthwiseGeometry::check`] and [`Dequantize::check`] passed for the arguments.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_f32(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[u8],
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    // SAFETY: the caller's promises.
    unsafe { conv(weights, g, rectangle, input, dequantize, out.as_mut_ptr()) }
}

/// # Safety
/// As [`conv_u8`]; `out` is writable for the rectangle.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn conv<S: Store>(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    input: &[u8],
    store: &S,
    out: *mut S::Out,
) {
    let mut taps: Vec<usize> = g.taps().collect();
    if taps.len() % 2 == 1 {
        // Its weights are zero.
        taps.push(taps[taps.len() - 1]);
    }
    let (pairs, _) = taps.as_chunks::<2>();
    let step = g.stride[1] * g.in_pixel_stride;
    let [multiplier, bias] = store.constants();
    for first in (0..g.channels).step_by(BLOCK) {
        let lanes = (g.channels - first).min(BLOCK);
        let w = weights.block(first);
        // SAFETY: (whole body) the pixels lie in the rectangle; a block of channels reaches less than the slack beyond the
        // last one.
        unsafe {
            let constants = Constants::new(store.acc_offset(), multiplier, bias, first);
            for row in rows.clone() {
                for part in even_parts(columns.len(), MOST) {
                    let origin = g.origin(row, columns.start + part.start);
                    let x = input.as_ptr().add(origin + first);
                    let to =
                        (row - rows.start) * g.out_row_stride + part.start * g.out_pixel_stride;
                    let to = out.add(to + first);
                    let stride = g.out_pixel_stride;
                    macro_rules! tile {
                        ($pixels:expr) => {{
                            let sums = sums::<$pixels>(pairs, w, constants.start, x, step);
                            store.store(&constants, &sums, lanes, to, stride);
                        }};
                    }
                    match part.len() {
                        1 => tile!(1),
                        2 => tile!(2),
                        3 => tile!(3),
                        4 => tile!(4),
                        5 => tile!(5),
                        _ => tile!(MOST),
                    }
                }
            }
        }
    }
}

/// The sums of eight channels of `N` pixels, `step` apart.
///
/// # Safety
/// AVX2 is available; eight bytes are readable at each tap of each pixel from `x` on, and the block's weights from `w` on.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sums<const N: usize>(
    pairs: &[[usize; 2]],
    w: *const i16,
    start: __m256i,
    x: *const u8,
    step: usize,
) -> [__m256i; N] {
    let mut acc = [start; N];
    for (pair, &[a, b]) in pairs.iter().enumerate() {
        // SAFETY: the caller's promises.
        unsafe {
            let weights = _mm256_loadu_si256(w.add(pair * 2 * BLOCK).cast());
            for (p, acc) in acc.iter_mut().enumerate() {
                let at = x.add(p * step);
                let a = _mm_loadl_epi64(at.add(a).cast());
                let b = _mm_loadl_epi64(at.add(b).cast());
                let both = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(both, weights));
            }
        }
    }
    acc
}
