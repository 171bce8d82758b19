//! AVX-512 VNNI: `vpdpbusd` multiplies four taps of one pixel with four taps of sixteen output channels.

use super::format::Format;
use super::tile::kernels_avx512;
use crate::proof::Avx512;
use std::arch::x86_64::*;

kernels_avx512!(I8, None);

/// i8 weights.
pub(in crate::qconv) struct I8;

// SAFETY: VNNI at most, and `weights` reads one vector.
unsafe impl Format for I8 {
    type Proof = Avx512;

    const STEP_TAPS: usize = 4;
    const ELEMENT_BYTES: usize = 1;
    const VECTOR_BYTES: usize = 64;
    const START_FIRST: bool = true;
    const BYTES_SHIFTED_BY: Option<u32> = Some(0);

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe { _mm512_load_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(acc, x, weights) }
    }
}
