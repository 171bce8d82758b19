//! AVX-512 F: sixteen lanes, 14 × 2 tiles.

use super::Epilogue;
use super::tile::{self, Vector};
use crate::ConvGeometry;
use std::arch::x86_64::*;
use std::ops::Range;

#[inline(always)]
fn mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

// SAFETY: all functions use AVX-512 F alone and touch as many lanes as the trait says.
unsafe impl Vector for __m512 {
    const LANES: usize = 16;
    const MAX_MR: usize = 14;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm512_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, lanes: usize) -> Self {
        unsafe { _mm512_maskz_loadu_ps(mask(lanes), from) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, lanes: usize) {
        unsafe { _mm512_mask_storeu_ps(to, mask(lanes), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm512_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }
}

#[target_feature(enable = "avx512f")]
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
        tile::conv::<__m512>(
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

#[target_feature(enable = "avx512f")]
pub(super) unsafe fn conv_grad_weights(
    g: &ConvGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let (input, grad_out) = (input.as_ptr(), grad_out.as_ptr());
    // SAFETY: as above.
    unsafe { tile::conv_grad_weights::<__m512>(g, input, grad_out, grad_weights.as_mut_ptr()) }
}
