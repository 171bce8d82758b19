//! AVX-512 with VPOPCNTDQ: 512 bits at a time.

use super::format::Format;
use super::tile::kernels_avx512;
use crate::proof::Avx512Popcnt;
use std::arch::asm;
use std::arch::x86_64::*;

kernels_avx512!(Bits, None);

/// Words of 32 signs.
pub(in crate::qconv) struct Bits;

// SAFETY: AVX-512 and VPOPCNTDQ, which `Proof` proves; `weights` reads one vector.
unsafe impl Format for Bits {
    type Proof = Avx512Popcnt;

    const STEP_TAPS: usize = 1;
    const ELEMENT_BYTES: usize = 4;
    const VECTOR_BYTES: usize = 64;
    const START_FIRST: bool = false;

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: the caller's promises; panels are aligned.
        unsafe { _mm512_load_si512(at.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        let mut count = _mm512_xor_si512(x, weights);
        // SAFETY: as above; registers only. The intrinsic would not be inlined into tiles compiled without VPOPCNTDQ.
        unsafe {
            asm!("vpopcntd {0}, {0}", inout(zmm_reg) count, options(pure, nomem, nostack, preserves_flags));
        }
        _mm512_add_epi32(acc, count)
    }

    #[inline(always)]
    unsafe fn finish(acc: __m512i, start: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_sub_epi32(start, _mm512_add_epi32(acc, acc)) }
    }
}
