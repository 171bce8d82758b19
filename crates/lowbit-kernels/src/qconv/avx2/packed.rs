//! AVX2: a block of 256 bits holds the weights of eight channels for 16/b steps, which come out as i16 for `vpmaddwd`.

use super::i16::KERNELS as WHOLE;
use super::tile::{Format, kernels_avx2};
use crate::proof::Avx2;
use crate::qconv::microkernel::Kernels;
use crate::qconv::panels::Panels;
use crate::{WeightShape, WeightWidth};
use std::arch::asm;
use std::arch::x86_64::*;

/// Kernels of 4 bits.
pub(in crate::qconv) mod w4 {
    super::kernels_avx2!(super::Packed<4, false>, Some(&super::WHOLE));
}

/// Kernels of odd weights of 4 bits.
pub(in crate::qconv) mod odd4 {
    super::kernels_avx2!(super::Packed<4, true>, Some(&super::WHOLE));
}

/// Kernels of odd weights of 2 bits.
pub(in crate::qconv) mod odd2 {
    super::kernels_avx2!(super::Packed<2, true>, Some(&super::WHOLE));
}

/// Kernels of 2 bits.
pub(in crate::qconv) mod w2 {
    super::kernels_avx2!(super::Packed<2, false>, Some(&super::WHOLE));
}

/// Kernels of 1 bit.
pub(in crate::qconv) mod w1 {
    super::kernels_avx2!(super::Packed<1, true>, Some(&super::WHOLE));
}

/// Packs weights of 4, 2 or 1 bit.
pub(in crate::qconv) fn pack(
    width: WeightWidth,
    weights: &[i16],
    shape: WeightShape,
    proof: Avx2,
) -> Panels {
    let set = match width {
        WeightWidth::Bits16 | WeightWidth::Bits8 => unreachable!("whole bytes are not packed"),
        WeightWidth::Bits4 => &w4::KERNELS,
        WeightWidth::Odd4 => &odd4::KERNELS,
        WeightWidth::Odd2 => &odd2::KERNELS,
        WeightWidth::Bits2 => &w2::KERNELS,
        WeightWidth::Bits1 => &w1::KERNELS,
    };
    let bits = width.bits() as usize;
    let kernels = Kernels::new(set, proof);
    Panels::pack(kernels, weights, shape, |panels, slot, weight| {
        let bit = slot.step * bits;
        let byte = slot.block + 4 * slot.lane + 2 * slot.tap + bit / 8;
        panels[byte] |= (width.code(weight) << (bit % 8)) as u8;
    })
}

/// A number as the shift instructions take it from memory.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Count([u64; 2]);

#[repr(align(32))]
struct Ones([u16; 16]);

static ONES: Ones = Ones([1; 16]);

static COUNTS: [Count; 16] = {
    let mut counts = [Count([0; 2]); 16];
    let mut count = 0;
    while count < 16 {
        counts[count].0[0] = count as u64;
        count += 1;
    }
    counts
};

/// Weights of `BITS` bits, in two's complement or odd.
pub(in crate::qconv) struct Packed<const BITS: usize, const ODD: bool>;

// SAFETY: AVX2 at most, and `weights` reads one block.
unsafe impl<const BITS: usize, const ODD: bool> Format for Packed<BITS, ODD> {
    type Proof = Avx2;

    const STEP_TAPS: usize = 2;
    const ELEMENT_BYTES: usize = 2;
    const BLOCK_STEPS: usize = 16 / BITS;
    const START_FIRST: bool = true;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn weights(block: *const u8, step: usize) -> __m256i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe {
            let codes = _mm256_load_si256(block.cast());
            let up = _mm_load_si128(COUNTS[16 - BITS * (step + 1)].0.as_ptr().cast());
            let down = _mm_load_si128(COUNTS[16 - BITS - ODD as usize].0.as_ptr().cast());
            let weights = _mm256_sra_epi16(_mm256_sll_epi16(codes, up), down);
            if ODD {
                // b to 2·b + 1, whatever lies below b. The ones stay in memory: no register is left for them.
                let mut odd = weights;
                asm!("vpor {0}, {0}, [{1}]", inout(ymm_reg) odd, in(reg) ONES.0.as_ptr(),
                    options(pure, readonly, nostack, preserves_flags));
                odd
            } else {
                weights
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, weights)) }
    }
}
