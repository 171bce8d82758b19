//! AVX2: `vpmaddwd` multiplies two taps of one pixel, widened to 16 bits, with two taps of eight output channels.
//! (`vpmaddubsw` would take bytes, but saturates: 2 · 255 · 127 > 32767.)

use super::tile::{Format, kernels_avx2};
use crate::proof::Avx2;
use std::arch::x86_64::*;

kernels_avx2!(I16, None);

/// i8 and i16 weights, both stored as i16.
pub(in crate::qconv) struct I16;

// SAFETY: AVX2 at most, and `weights` reads one vector.
unsafe impl Format for I16 {
    type Proof = Avx2;

    const STEP_TAPS: usize = 2;
    const ELEMENT_BYTES: usize = 2;
    const BLOCK_STEPS: usize = 1;
    const START_FIRST: bool = true;

    #[inline(always)]
    unsafe fn weights(block: *const u8, _step: usize) -> __m256i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe { _mm256_load_si256(block.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, weights)) }
    }
}
