//! Sums of eight channels of a few neighboring pixels. Two taps, one below the other, are interleaved and widened to 16 bits,
//! and multiplied and added in pairs: exact.

use super::super::pack::BLOCK;
use std::arch::x86_64::*;

/// Most pixels of a tile.
pub(super) const MOST: usize = 8;

/// What a tile works on.
pub(super) struct Tile {
    /// The first tap of the first pixel.
    pub(super) x: *const u8,
    /// Bytes from one kernel row, kernel column and pixel to the next.
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) step: usize,
    pub(super) kernel: [usize; 2],
    /// The block's weights, `[pair of rows][column][lane][row of the pair]`.
    pub(super) w: *const i16,
    /// Where the sums begin.
    pub(super) start: __m256i,
    /// Receives a vector for each pixel.
    pub(super) sums: *mut __m256i,
}

/// Computes the sums of a tile of its own number of pixels.
///
/// # Safety
/// AVX2 is available; eight bytes are readable at each tap of each pixel, the block's weights from `w` on; `sums` is writable
/// for each pixel, and the kernel has the shape that the function is for.
pub(super) type Sums = unsafe fn(&Tile);

/// The functions for tiles of 1 to [`MOST`] pixels.
pub(super) fn tiles(kernel: [usize; 2], stride: usize, dilation: usize) -> &'static [Sums; MOST] {
    macro_rules! of {
        ($function:ident $(, $shape:literal)*) => {
            &[
                $function::<$($shape,)* 1>, $function::<$($shape,)* 2>, $function::<$($shape,)* 3>,
                $function::<$($shape,)* 4>, $function::<$($shape,)* 5>, $function::<$($shape,)* 6>,
                $function::<$($shape,)* 7>, $function::<$($shape,)* 8>,
            ]
        };
    }
    match (kernel, stride, dilation) {
        ([3, 3], 1, 1) => of!(unrolled, 3, 3, 1),
        ([3, 3], 2, 1) => of!(unrolled, 3, 3, 2),
        ([5, 5], 1, 1) => of!(unrolled, 5, 5, 1),
        ([5, 5], 2, 1) => of!(unrolled, 5, 5, 2),
        _ => of!(general),
    }
}

/// Eight bytes of `x` and of `below`, in turns, as 16 bits.
///
/// # Safety
/// AVX2 is available; eight bytes are readable from each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pair(x: *const u8, below: *const u8) -> __m256i {
    // SAFETY: the caller's promises.
    unsafe {
        let (a, b) = (_mm_loadl_epi64(x.cast()), _mm_loadl_epi64(below.cast()));
        _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b))
    }
}

/// Eight bytes of `x` and zeros, in turns, as 16 bits.
///
/// # Safety
/// As [`pair`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn single(x: *const u8) -> __m256i {
    // SAFETY: the caller's promises.
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.cast())) }
}

/// Kernels of a known shape: what a column of the input holds is widened once for all pixels that see it.
///
/// # Safety
/// As [`Sums`], for `KH × KW` taps without dilation of `N` pixels, `STRIDE` columns apart.
#[target_feature(enable = "avx2")]
unsafe fn unrolled<const KH: usize, const KW: usize, const STRIDE: usize, const N: usize>(
    tile: &Tile,
) {
    let mut acc = [tile.start; N];
    for rows in 0..KH.div_ceil(2) {
        // SAFETY: (whole body) the caller's promises.
        unsafe {
            let weights = tile.w.add(rows * KW * 2 * BLOCK);
            let weights: [__m256i; KW] = std::array::from_fn(|column| {
                _mm256_loadu_si256(weights.add(column * 2 * BLOCK).cast())
            });
            let mut x = tile.x.add(2 * rows * tile.row);
            // The conditions are constants: of each column what its pixels need is left.
            macro_rules! columns {
                ($($column:literal)*) => {$(
                    if $column < (N - 1) * STRIDE + KW {
                        let taps = match 2 * rows + 1 < KH {
                            true => pair(x, x.add(tile.row)),
                            false => single(x),
                        };
                        x = x.wrapping_add(tile.column);
                        columns!(taps, $column: 0 1 2 3 4);
                    }
                )*};
                ($taps:ident, $column:literal: $($tap:literal)*) => {$(
                    if $tap < KW && $column >= $tap && ($column - $tap) % STRIDE == 0 && ($column - $tap) / STRIDE < N {
                        let sum = &mut acc[($column - $tap) / STRIDE];
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16($taps, weights[$tap]));
                    }
                )*};
            }
            columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
            let _ = x;
        }
    }
    for (p, sum) in acc.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(tile.sums.add(p), sum) };
    }
}

/// Kernels of any shape.
///
/// # Safety
/// As [`Sums`], for `N` pixels.
#[target_feature(enable = "avx2")]
unsafe fn general<const N: usize>(tile: &Tile) {
    let [kernel_h, kernel_w] = tile.kernel;
    let mut acc = [tile.start; N];
    let mut w = tile.w;
    for row in (0..kernel_h).step_by(2) {
        // The weights of a row that is missing are zeros.
        let below = if row + 1 < kernel_h { tile.row } else { 0 };
        for column in 0..kernel_w {
            // SAFETY: the caller's promises.
            unsafe {
                let x = tile.x.add(row * tile.row + column * tile.column);
                let weights = _mm256_loadu_si256(w.cast());
                for (p, sum) in acc.iter_mut().enumerate() {
                    let x = x.add(p * tile.step);
                    let taps = pair(x, x.add(below));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(taps, weights));
                }
                w = w.add(2 * BLOCK);
            }
        }
    }
    for (p, sum) in acc.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(tile.sums.add(p), sum) };
    }
}
