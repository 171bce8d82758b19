//! AVX-512 F: sixteen lanes, 14 × 2 tiles.

use super::Epilogue;
use super::tile::{self, Vector};
use crate::{ConvGeometry, ImagesGeometry};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

#[inline(always)]
fn mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

// SAFETY: no function needs more than AVX-512 F, or touches more lanes than the trait says.
unsafe impl Vector for __m512 {
    const LANES: usize = 16;
    const MAX_MR: usize = 14;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, lanes: usize) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_maskz_loadu_ps(mask(lanes), from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, lanes: usize) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_mask_storeu_ps(to, mask(lanes), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }
    /// In assembly, since the compiler else gathers a tile's broadcasts before their products, and spills.
    #[inline(always)]
    unsafe fn fma_splat<const N: usize>(
        acc: &mut [Self; N],
        from: *const f32,
        at: usize,
        w: &[Self; N],
    ) {
        // SAFETY: the trait's contract; `N` says how many vectors there are.
        unsafe {
            match N {
                1 => acc[0] = fma_splat_1(acc[0], from, at, w[0]),
                2 => [acc[0], acc[1]] = fma_splat_2([acc[0], acc[1]], from, at, [w[0], w[1]]),
                _ => unreachable!("tiles have one or two vectors"),
            }
        }
    }
}

/// # Safety
/// `from[at]` must be readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn fma_splat_1(mut acc: __m512, from: *const f32, at: usize, w: __m512) -> __m512 {
    // SAFETY: nothing but the f32 is read, nothing but the operand is written.
    unsafe {
        asm!(
            "vfmadd231ps {acc}, {w}, dword ptr [{from} + 4*{at}]{{1to16}}",
            from = in(reg) from,
            at = in(reg) at,
            w = in(zmm_reg) w,
            acc = inout(zmm_reg) acc,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    acc
}

/// # Safety
/// `from[at]` must be readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn fma_splat_2(
    [mut acc0, mut acc1]: [__m512; 2],
    from: *const f32,
    at: usize,
    [w0, w1]: [__m512; 2],
) -> [__m512; 2] {
    // SAFETY: nothing but the f32 is read, nothing but the operands is written.
    unsafe {
        asm!(
            "vbroadcastss {x}, dword ptr [{from} + 4*{at}]",
            "vfmadd231ps {acc0}, {x}, {w0}",
            "vfmadd231ps {acc1}, {x}, {w1}",
            from = in(reg) from,
            at = in(reg) at,
            x = out(zmm_reg) _,
            w0 = in(zmm_reg) w0,
            w1 = in(zmm_reg) w1,
            acc0 = inout(zmm_reg) acc0,
            acc1 = inout(zmm_reg) acc1,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [acc0, acc1]
}

/// # Safety
/// As [`tile::conv`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn conv_f32_14x32_avx512(
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
        tile::conv::<__m512>(
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
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn conv_f32_grad_weights_14x32_avx512(
    g: &ConvGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let (input, grad_out) = (input.as_ptr(), grad_out.as_ptr());
    // SAFETY: as above.
    unsafe { tile::conv_grad_weights::<__m512>(g, input, grad_out, grad_weights.as_mut_ptr()) }
}

/// # Safety
/// As [`tile::conv_images`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn conv_f32_images_14x32_avx512(
    panels: &[f32],
    g: &ImagesGeometry,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (input, out) = (input.as_ptr(), out.as_mut_ptr());
    // SAFETY: the caller checked the ISA, the geometry and the slices' lengths.
    unsafe { tile::conv_images::<__m512>(panels, g, input, epilogue, out) }
}

/// # Safety
/// As [`tile::conv_images_grad_weights`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn conv_f32_images_grad_weights_14x32_avx512(
    g: &ImagesGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let (input, grad_out) = (input.as_ptr(), grad_out.as_ptr());
    // SAFETY: as above.
    unsafe {
        tile::conv_images_grad_weights::<__m512>(g, input, grad_out, grad_weights.as_mut_ptr())
    }
}
