//! What a format of weights is to the register tiles of AVX-512.

use crate::proof::Avx512;
use std::arch::x86_64::*;

/// A weight format: how a vector of weights is read, multiplied and what the sums mean.
///
/// # Safety
/// Its functions need what `Proof` proves, no more. They are inlined into functions compiled for what [`Avx512`] does, and read `VECTOR_BYTES` bytes at `weights`' pointer, nothing else.
pub(in crate::qconv) unsafe trait Format {
    /// The proof of what its functions need.
    type Proof: Into<Avx512> + 'static;
    /// Taps of a step: four bytes of activations.
    const STEP_TAPS: usize;
    /// Bytes of an activation.
    const ELEMENT_BYTES: usize;
    /// Bytes that hold sixteen channels' weights of one step.
    const VECTOR_BYTES: usize;
    /// Whether accumulators begin at the channels' start values; else `finish` adds them.
    const START_FIRST: bool;

    /// Whether `weights` are bytes, signed, times this power of two: such formats can go to matrix tiles.
    const BYTES_SHIFTED_BY: Option<u32> = None;

    /// Weights of one vector and step.
    unsafe fn weights(at: *const u8) -> __m512i;
    /// `acc` and the products of activations `x` with `weights`.
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i;
    /// The sums, of an accumulator and the channels' start values.
    #[inline(always)]
    unsafe fn finish(acc: __m512i, _start: __m512i) -> __m512i {
        acc
    }
}

/// Weights of one vector and step as the bytes that they are.
///
/// # Safety
/// As [`Format::weights`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(in crate::qconv) unsafe fn bytes<F: Format>(at: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    let weights = unsafe { F::weights(at) };
    let shift = const { F::BYTES_SHIFTED_BY.expect("a format of bytes") };
    if shift == 0 {
        return weights;
    }
    // There is no arithmetic shift of bytes: shift pairs, cut what came from the neighbor, extend the sign.
    let sign = _mm512_set1_epi8((0x80_u8 >> shift) as i8);
    let kept = _mm512_set1_epi8((0xff_u8 >> shift) as i8);
    let shifted = _mm512_srl_epi16(weights, _mm_cvtsi32_si128(shift as i32));
    let low = _mm512_and_si512(shifted, kept);
    _mm512_sub_epi8(_mm512_xor_si512(low, sign), sign)
}
