//! AVX2: weights of a byte, in a byte: half of what is read of a large layer, for an instruction that widens them.

use super::i16::KERNELS as WHOLE;
use super::tile::{Format, kernels_avx2};
use crate::WeightShape;
use crate::proof::Avx2;
use crate::qconv::layout::Slot;
use crate::qconv::microkernel::Kernels;
use crate::qconv::panels::Panels;
use std::arch::x86_64::*;

kernels_avx2!(I8, Some(&WHOLE));

/// Packs weights of −128 to 127.
pub(in crate::qconv) fn pack(weights: &[i16], shape: WeightShape, proof: Avx2) -> Panels {
    let kernels = Kernels::new(&KERNELS, proof);
    Panels::pack(
        kernels,
        weights,
        shape,
        |panels, slot: Slot, weight: i16| {
            panels[slot.block + 16 * slot.step + 2 * slot.lane + slot.tap] = weight as u8;
        },
    )
}

/// i8 weights: a block holds those of eight channels for two steps of two taps.
pub(in crate::qconv) struct I8;

// SAFETY: AVX2 at most, and `weights` reads half a block.
unsafe impl Format for I8 {
    type Proof = Avx2;

    const STEP_TAPS: usize = 2;
    const ELEMENT_BYTES: usize = 2;
    const BLOCK_STEPS: usize = 2;
    const START_FIRST: bool = true;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn weights(block: *const u8, step: usize) -> __m256i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe { _mm256_cvtepi8_epi16(_mm_load_si128(block.add(16 * step).cast())) }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, weights)) }
    }
}
