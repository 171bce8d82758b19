//! AVX2: population count by a table of nibbles.

use super::tile::{Format, kernels_avx2};
use crate::proof::Avx2;
use std::arch::x86_64::*;

kernels_avx2!(Bits, None);

/// The signs of 32 values.
#[inline]
pub(crate) fn signs(values: &[u8; 32], threshold: u8, _proof: Avx2) -> u32 {
    // SAFETY: the proof is that of AVX2.
    unsafe { pack_signs_avx2(values, threshold) }
}

#[target_feature(enable = "avx2")]
fn pack_signs_avx2(values: &[u8; 32], threshold: u8) -> u32 {
    // SAFETY: 32 bytes are read.
    let values = unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
    let threshold = _mm256_set1_epi8(threshold as i8);
    // x >= t exactly where max(x, t) = x.
    let not_below = _mm256_cmpeq_epi8(_mm256_max_epu8(values, threshold), values);
    !_mm256_movemask_epi8(not_below) as u32
}

/// Words of 32 signs.
pub(in crate::qconv) struct Bits;

// SAFETY: AVX2 at most, and `weights` reads one vector.
unsafe impl Format for Bits {
    type Proof = Avx2;

    const STEP_TAPS: usize = 1;
    const ELEMENT_BYTES: usize = 4;
    const BLOCK_STEPS: usize = 1;
    const START_FIRST: bool = false;

    #[inline(always)]
    unsafe fn weights(block: *const u8, _step: usize) -> __m256i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe { _mm256_load_si256(block.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let table = _mm256_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3,
                2, 3, 3, 4,
            );
            let nibble = _mm256_set1_epi8(0x0f);
            let bits = _mm256_xor_si256(x, weights);
            let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble);
            let bytes = _mm256_add_epi8(low, _mm256_shuffle_epi8(table, high));
            let words = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
            let counts = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
            _mm256_add_epi32(acc, counts)
        }
    }

    #[inline(always)]
    unsafe fn finish(acc: __m256i, start: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_sub_epi32(start, _mm256_add_epi32(acc, acc)) }
    }
}
