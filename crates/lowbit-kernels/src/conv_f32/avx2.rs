//! AVX2 with FMA: eight lanes, 6 × 2 tiles.

use super::Epilogue;
use super::tile::{self, Vector};
use crate::{ConvGeometry, ImagesGeometry};
use std::arch::x86_64::*;
use std::ops::Range;

/// All ones in the first `lanes` lanes.
///
/// # Safety
/// AVX2 must be available.
#[inline(always)]
unsafe fn mask(lanes: usize) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), index)
    }
}

// SAFETY: no function needs more than AVX2 and FMA, or touches more lanes than the trait says.
unsafe impl Vector for __m256 {
    const LANES: usize = 8;
    const MAX_MR: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, lanes: usize) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_maskload_ps(from, mask(lanes)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, lanes: usize) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_maskstore_ps(to, mask(lanes), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }
}

/// # Safety
/// As [`tile::conv`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_f32_6x16_avx2(
    panels: &[f32],
    g: &ConvGeometry,
    rows: Range<usize>,
    border: usize,
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
            border,
            input.as_ptr(),
            epilogue,
            out.as_mut_ptr(),
        )
    }
}

/// # Safety
/// As [`tile::conv_grad_weights`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_f32_grad_weights_6x16_avx2(
    g: &ConvGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let (input, grad_out) = (input.as_ptr(), grad_out.as_ptr());
    // SAFETY: as above.
    unsafe { tile::conv_grad_weights::<__m256>(g, input, grad_out, grad_weights.as_mut_ptr()) }
}

/// # Safety
/// As [`tile::conv_images`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_f32_images_6x16_avx2(
    panels: &[f32],
    g: &ImagesGeometry,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (input, out) = (input.as_ptr(), out.as_mut_ptr());
    // SAFETY: the caller checked the ISA, the geometry and the slices' lengths.
    unsafe { tile::conv_images::<__m256>(panels, g, input, epilogue, out) }
}

/// # Safety
/// As [`tile::conv_images_grad_weights`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_f32_images_grad_weights_6x16_avx2(
    g: &ImagesGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let (input, grad_out) = (input.as_ptr(), grad_out.as_ptr());
    // SAFETY: as above.
    unsafe {
        tile::conv_images_grad_weights::<__m256>(g, input, grad_out, grad_weights.as_mut_ptr())
    }
}
