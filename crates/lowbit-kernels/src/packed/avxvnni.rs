//! AVX-VNNI: a block of 256 bits holds the weights of eight channels for 8/b steps of four taps, which come out as bytes
//! for `vpdpbusd`, times a power of two.

use super::WeightWidth;
use crate::WeightShape;
use crate::tiles::avx2::{Format, dpbusd, family, packed_family};
use crate::tiles::{Family, Panels};
use std::arch::x86_64::*;

/// Packs weights of 8, 4, 2 or 1 bits, for machines with AVX-VNNI.
pub(crate) fn pack(width: WeightWidth, weights: &[i16], shape: WeightShape) -> Panels {
    static FAMILY_8: Family = family::<Packed<8>>();
    static FAMILY_4: Family = packed_family::<Packed<4>>(&FAMILY_8);
    static FAMILY_2: Family = packed_family::<Packed<2>>(&FAMILY_8);
    static FAMILY_1: Family = packed_family::<Packed<1>>(&FAMILY_8);
    let width = width.in_memory(&shape);
    let family = match width {
        WeightWidth::Bits16 => unreachable!("two bytes are AVX2's"),
        WeightWidth::Bits8 => &FAMILY_8,
        WeightWidth::Bits4 => &FAMILY_4,
        WeightWidth::Bits2 => &FAMILY_2,
        WeightWidth::Bits1 => &FAMILY_1,
    };
    let bits = width.bits() as usize;
    Panels::pack(family, weights, shape, |panels, slot, weight| {
        let byte = slot.block + 4 * slot.lane + slot.tap;
        panels[byte] |= (width.code(weight) << (slot.step * bits)) as u8;
    })
}

/// Weights of `BITS` bits.
struct Packed<const BITS: usize>;

impl<const BITS: usize> Packed<BITS> {
    /// The power of two that weights come out multiplied by: shifted to the top of their byte, they need no sign
    /// extension.
    const SHIFT: i32 = match BITS {
        8 => 0,
        4 => 4,
        _ => 6,
    };
}

// SAFETY: AVX-VNNI besides what the trait allows, as said at `pack`; `weights` reads one block.
unsafe impl<const BITS: usize> Format for Packed<BITS> {
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
        if BITS == 1 {
            // −128 or 0 to −64 or 64.
            _mm256_or_si256(weights, _mm256_set1_epi8(64))
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
        // SAFETY: the machine has AVX-VNNI.
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
