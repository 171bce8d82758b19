//! AVX-VNNI: a block of 256 bits holds the weights of eight channels for 8/b steps of four taps, which come out as bytes
//! for `vpdpbusd`, times a power of two.

use super::dpbusd;
use crate::proof::AvxVnni;
use crate::qconv::avx2::tile::Format;
use crate::qconv::microkernel::Kernels;
use crate::qconv::panels::Panels;
use crate::{WeightShape, WeightWidth};
use std::arch::x86_64::*;

/// The kernels of a format with the names of AVX-VNNI.
macro_rules! kernels_avxvnni {
    ($format:ty, $whole:expr) => {
        $crate::qconv::avx2::tile::define_kernels! {
            $format, $whole,
            plain: [
                [
                    qconv_1x8_avxvnni = 1 x 1, qconv_2x8_avxvnni = 2 x 1,
                    qconv_3x8_avxvnni = 3 x 1, qconv_4x8_avxvnni = 4 x 1,
                    qconv_5x8_avxvnni = 5 x 1, qconv_6x8_avxvnni = 6 x 1
                ],
                [
                    qconv_1x16_avxvnni = 1 x 2, qconv_2x16_avxvnni = 2 x 2,
                    qconv_3x16_avxvnni = 3 x 2, qconv_4x16_avxvnni = 4 x 2,
                    qconv_5x16_avxvnni = 5 x 2, qconv_6x16_avxvnni = 6 x 2
                ]
            ],
            pooled: [
                [
                    qconv_pooled_2x2x8_avxvnni = 2 x 1, qconv_pooled_2x4x8_avxvnni = 4 x 1,
                    qconv_pooled_2x6x8_avxvnni = 6 x 1
                ],
                [
                    qconv_pooled_2x2x16_avxvnni = 2 x 2, qconv_pooled_2x4x16_avxvnni = 4 x 2,
                    qconv_pooled_2x6x16_avxvnni = 6 x 2
                ]
            ]
        }
    };
}
use kernels_avxvnni;

/// Kernels of 8 bits.
pub(in crate::qconv) mod w8 {
    super::kernels_avxvnni!(super::Packed<8, false>, None);
}

/// Kernels of 4 bits.
pub(in crate::qconv) mod w4 {
    super::kernels_avxvnni!(super::Packed<4, false>, Some(&super::w8::KERNELS));
}

/// Kernels of odd weights of 4 bits.
pub(in crate::qconv) mod odd4 {
    super::kernels_avxvnni!(super::Packed<4, true>, Some(&super::w8::KERNELS));
}

/// Kernels of odd weights of 2 bits.
pub(in crate::qconv) mod odd2 {
    super::kernels_avxvnni!(super::Packed<2, true>, Some(&super::w8::KERNELS));
}

/// Kernels of 2 bits.
pub(in crate::qconv) mod w2 {
    super::kernels_avxvnni!(super::Packed<2, false>, Some(&super::w8::KERNELS));
}

/// Kernels of 1 bit.
pub(in crate::qconv) mod w1 {
    super::kernels_avxvnni!(super::Packed<1, true>, Some(&super::w8::KERNELS));
}

/// Packs weights of 8, 4, 2 or 1 bit.
pub(in crate::qconv) fn pack(
    width: WeightWidth,
    weights: &[i16],
    shape: WeightShape,
    proof: AvxVnni,
) -> Panels {
    let set = match width {
        WeightWidth::Bits16 => unreachable!("two bytes are AVX2's"),
        WeightWidth::Bits8 => &w8::KERNELS,
        WeightWidth::Bits4 => &w4::KERNELS,
        WeightWidth::Odd4 => &odd4::KERNELS,
        WeightWidth::Odd2 => &odd2::KERNELS,
        WeightWidth::Bits2 => &w2::KERNELS,
        WeightWidth::Bits1 => &w1::KERNELS,
    };
    let bits = width.bits() as usize;
    let kernels = Kernels::new(set, proof);
    Panels::pack(kernels, weights, shape, |panels, slot, weight| {
        let byte = slot.block + 4 * slot.lane + slot.tap;
        panels[byte] |= (width.code(weight) << (slot.step * bits)) as u8;
    })
}

/// Weights of `BITS` bits, in two's complement or odd.
pub(in crate::qconv) struct Packed<const BITS: usize, const ODD: bool>;

impl<const BITS: usize, const ODD: bool> Packed<BITS, ODD> {
    /// The power of two that weights come out multiplied by: shifted to the top of their byte, they need no sign
    /// extension.
    const SHIFT: i32 = 8 - BITS as i32 - ODD as i32;
}

// SAFETY: AVX2 and AVX-VNNI, which `Proof` proves; `weights` reads one block.
unsafe impl<const BITS: usize, const ODD: bool> Format for Packed<BITS, ODD> {
    type Proof = AvxVnni;

    const STEP_TAPS: usize = 4;
    const ELEMENT_BYTES: usize = 1;
    const BLOCK_STEPS: usize = 8 / BITS;
    const START_FIRST: bool = BITS == 8;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn weights(block: *const u8, step: usize) -> __m256i {
        // SAFETY: the caller's promises; panels are aligned.
        let codes = unsafe { _mm256_load_si256(block.cast()) };
        if BITS == 8 {
            return codes;
        }
        // What a byte's neighbor shifts in lies below the bits that are kept.
        let up = _mm_cvtsi32_si128((8 - BITS * (step + 1)) as i32);
        let top = _mm256_set1_epi8((0xff00_u16 >> BITS) as i8);
        let weights = _mm256_and_si256(_mm256_sll_epi16(codes, up), top);
        if ODD {
            // 2·b to 2·b + 1, both times 2 to the power of SHIFT.
            _mm256_or_si256(weights, _mm256_set1_epi8(1 << Self::SHIFT))
        } else {
            weights
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn whole(weights: __m256i) -> __m256i {
        // There is no arithmetic shift of bytes: shift pairs, cut what came from the neighbor, extend the sign.
        let sign = _mm256_set1_epi8((0x80_u8 >> Self::SHIFT) as i8);
        let kept = _mm256_set1_epi8((0xff_u8 >> Self::SHIFT) as i8);
        let shifted = _mm256_srl_epi16(weights, _mm_cvtsi32_si128(Self::SHIFT));
        let low = _mm256_and_si256(shifted, kept);
        _mm256_sub_epi8(_mm256_xor_si256(low, sign), sign)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller has what `Proof` proves.
        unsafe { dpbusd(acc, x, weights) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn finish(acc: __m256i, start: __m256i) -> __m256i {
        if BITS == 8 {
            return acc;
        }
        let shift = _mm_cvtsi32_si128(Self::SHIFT);
        _mm256_add_epi32(_mm256_sra_epi32(acc, shift), start)
    }
}
