//! AVX-VNNI: the tiles of AVX2 with products of four bytes.

pub(super) mod packed;

use std::arch::asm;
use std::arch::x86_64::*;

/// `acc` and the products of four bytes with four signed bytes (AVX-VNNI).
///
/// # Safety
/// AVX-VNNI is available.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn dpbusd(mut acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
    // SAFETY: registers only. The intrinsic would not be inlined into tiles compiled for AVX2 alone.
    unsafe {
        asm!("{{vex}} vpdpbusd {0}, {1}, {2}", inout(ymm_reg) acc, in(ymm_reg) x, in(ymm_reg) weights,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}
