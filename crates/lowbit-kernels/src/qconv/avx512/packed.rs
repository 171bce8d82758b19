//! AVX-512: 64 weights of a vector and step come out of 32, 16 or 8 bytes as bytes for `vpdpbusd`.

use super::format::Format;
use super::i8::KERNELS as BYTES;
use super::tile::kernels_avx512;
use crate::proof::Avx512;
use crate::qconv::layout::put_i16;
use crate::qconv::microkernel::Kernels;
use crate::qconv::panels::Panels;
use crate::{WeightShape, WeightWidth};
use std::arch::x86_64::*;

/// Kernels of 16 bits.
pub(in crate::qconv) mod w16 {
    super::kernels_avx512!(super::I16, None);
}

/// Kernels of 4 bits.
pub(in crate::qconv) mod w4 {
    super::kernels_avx512!(super::I4<false>, Some(&super::BYTES));
}

/// Kernels of odd weights of 4 bits.
pub(in crate::qconv) mod odd4 {
    super::kernels_avx512!(super::I4<true>, Some(&super::BYTES));
}

/// Kernels of odd weights of 2 bits.
pub(in crate::qconv) mod odd2 {
    super::kernels_avx512!(super::I2<true>, Some(&super::BYTES));
}

/// Kernels of 2 bits.
pub(in crate::qconv) mod w2 {
    super::kernels_avx512!(super::I2<false>, Some(&super::BYTES));
}

/// Kernels of 1 bit.
pub(in crate::qconv) mod w1 {
    super::kernels_avx512!(super::I1, Some(&super::BYTES));
}

/// Packs weights of 16, 4, 2 or 1 bit.
pub(in crate::qconv) fn pack(
    width: WeightWidth,
    weights: &[i16],
    shape: WeightShape,
    proof: Avx512,
) -> Panels {
    let set = match width {
        WeightWidth::Bits16 => {
            return Panels::pack(Kernels::new(&w16::KERNELS, proof), weights, shape, put_i16);
        }
        WeightWidth::Bits8 => unreachable!("bytes are not packed"),
        WeightWidth::Bits4 => &w4::KERNELS,
        WeightWidth::Odd4 => &odd4::KERNELS,
        WeightWidth::Odd2 => &odd2::KERNELS,
        WeightWidth::Bits2 => &w2::KERNELS,
        WeightWidth::Bits1 => &w1::KERNELS,
    };
    let bits = width.bits() as usize;
    let kernels = Kernels::new(set, proof);
    Panels::pack(kernels, weights, shape, |panels, slot, weight| {
        let index = 4 * slot.lane + slot.tap;
        let (byte, shift) = (index % (8 * bits), index / (8 * bits) * bits);
        panels[slot.block + byte] |= (width.code(weight) << shift) as u8;
    })
}

/// 16 bits: two taps a step, `vpdpwssd`.
pub(in crate::qconv) struct I16;

/// 4 bits, in two's complement or odd.
pub(in crate::qconv) struct I4<const ODD: bool>;

/// 2 bits, in two's complement or odd.
pub(in crate::qconv) struct I2<const ODD: bool>;

/// 1 bit.
pub(in crate::qconv) struct I1;

// SAFETY: VNNI at most, and `weights` reads one vector.
unsafe impl Format for I16 {
    type Proof = Avx512;

    const STEP_TAPS: usize = 2;
    const ELEMENT_BYTES: usize = 2;
    const VECTOR_BYTES: usize = 64;
    const START_FIRST: bool = true;

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe { _mm512_load_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpwssd_epi32(acc, x, weights) }
    }
}

/// `bits & top`, and `low` besides where weights are odd.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn odd_or_not<const ODD: bool>(bits: __m512i, top: __m512i, low: __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        match ODD {
            true => _mm512_ternarylogic_epi64::<0xea>(bits, top, low),
            false => _mm512_and_si512(bits, top),
        }
    }
}

// SAFETY: VNNI at most, and `weights` reads 32 bytes.
unsafe impl<const ODD: bool> Format for I4<ODD> {
    type Proof = Avx512;

    const STEP_TAPS: usize = 4;
    const ELEMENT_BYTES: usize = 1;
    const VECTOR_BYTES: usize = 32;
    const START_FIRST: bool = false;
    const BYTES_SHIFTED_BY: Option<u32> = Some(if ODD { 3 } else { 4 });

    /// The weights times 16: shifted to the top of each byte, they need no sign extension. Odd ones, 2·b + 1, times 8.
    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: the caller's promises.
        unsafe {
            let codes = _mm512_broadcast_i64x4(_mm256_loadu_si256(at.cast()));
            let shifts = _mm512_setr_epi32(4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0);
            let top = _mm512_set1_epi8(0xf0_u8 as i8);
            odd_or_not::<ODD>(_mm512_sllv_epi32(codes, shifts), top, _mm512_set1_epi8(8))
        }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(acc, x, weights) }
    }

    #[inline(always)]
    unsafe fn finish(acc: __m512i, start: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe {
            let sums = match ODD {
                true => _mm512_srai_epi32::<3>(acc),
                false => _mm512_srai_epi32::<4>(acc),
            };
            _mm512_add_epi32(sums, start)
        }
    }
}

// SAFETY: VNNI at most, and `weights` reads 16 bytes.
unsafe impl<const ODD: bool> Format for I2<ODD> {
    type Proof = Avx512;

    const STEP_TAPS: usize = 4;
    const ELEMENT_BYTES: usize = 1;
    const VECTOR_BYTES: usize = 16;
    const START_FIRST: bool = false;
    const BYTES_SHIFTED_BY: Option<u32> = Some(if ODD { 5 } else { 6 });

    /// The weights times 64; odd ones, 2·b + 1, times 32.
    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: the caller's promises.
        unsafe {
            let codes = _mm512_broadcast_i32x4(_mm_loadu_si128(at.cast()));
            let shifts = _mm512_setr_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
            let top = _mm512_set1_epi8(0xc0_u8 as i8);
            odd_or_not::<ODD>(_mm512_sllv_epi32(codes, shifts), top, _mm512_set1_epi8(32))
        }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(acc, x, weights) }
    }

    #[inline(always)]
    unsafe fn finish(acc: __m512i, start: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe {
            let sums = match ODD {
                true => _mm512_srai_epi32::<5>(acc),
                false => _mm512_srai_epi32::<6>(acc),
            };
            _mm512_add_epi32(sums, start)
        }
    }
}

// SAFETY: VNNI at most, and `weights` reads 8 bytes.
unsafe impl Format for I1 {
    type Proof = Avx512;

    const STEP_TAPS: usize = 4;
    const ELEMENT_BYTES: usize = 1;
    const VECTOR_BYTES: usize = 8;
    const START_FIRST: bool = false;
    const BYTES_SHIFTED_BY: Option<u32> = Some(6);

    /// The weights times 64: the sign at the top of each byte is −128 or 0, and 64 is added.
    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: the caller's promises.
        unsafe {
            let codes = _mm512_set1_epi64(at.cast::<i64>().read_unaligned());
            let shifts = _mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0);
            let (sign, bias) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(64));
            // (codes << shifts & sign) | bias
            _mm512_ternarylogic_epi64::<0xea>(_mm512_sllv_epi64(codes, shifts), sign, bias)
        }
    }

    #[inline(always)]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(acc, x, weights) }
    }

    #[inline(always)]
    unsafe fn finish(acc: __m512i, start: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_add_epi32(_mm512_srai_epi32::<6>(acc), start) }
    }
}
