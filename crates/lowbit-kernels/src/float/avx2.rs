//! AVX2 with FMA: eight lanes, 6 × 2 tiles.

use super::Epilogue;
use super::tile::{self, Vector};
use crate::ConvGeometry;
use std::arch::x86_64::*;
use std::ops::Range;

/// All ones in the first `lanes` lanes.
#[inline(always)]
unsafe fn mask(lanes: usize) -> __m256i {
    unsafe {
        let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), index)
    }
}

// SAFETY: all functions use AVX2 and FMA and touch as many lanes as the trait says.
unsafe impl Vector for __m256 {
    const LANES: usize = 8;
    const MAX_MR: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm256_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, lanes: usize) -> Self {
        unsafe { _mm256_maskload_ps(from, mask(lanes)) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, lanes: usize) {
        unsafe { _mm256_maskstore_ps(to, mask(lanes), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm256_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv(
    panels: &[f32],
    g: &ConvGeometry,
    rows: Range<usize>,
    zero_rows: usize,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    // SAFETY: the caller checked the ISA, the geometry and the slices' lengths.
    unsafe {
        tile::conv::<__m256>(
            panels,
            g,
            rows,
            zero_rows,
            input.as_ptr(),
            epilogue,
            out.as_mut_ptr(),
        )
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_grad_weights(
    g: &ConvGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let (input, grad_out) = (input.as_ptr(), grad_out.as_ptr());
    // SAFETY: as above.
    unsafe { tile::conv_grad_weights::<__m256>(g, input, grad_out, grad_weights.as_mut_ptr()) }
}
