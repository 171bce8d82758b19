//! The loops for x86-64: one instruction, twelve or more accumulators, nothing else.

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

/// A loop of `$step` over `$count` accumulators of vector type `$vector`, which `$step` takes with the two operands. The
/// empty assembly keeps the compiler from merging or hoisting the steps.
macro_rules! accumulate {
    ($name:ident, $features:literal, $vector:ty, $register:ident, $count:literal, $macs:literal, $zero:expr,
     |$acc:ident, $x:ident, $w:ident| $step:expr) => {
        /// # Safety
        /// The instruction set is available.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(rounds: u64) -> u64 {
            let $x: $vector = black_box($zero);
            let $w: $vector = black_box($zero);
            let mut all = [$zero; $count];
            for _ in 0..rounds {
                for $acc in &mut all {
                    $step;
                    // SAFETY: no instruction at all.
                    unsafe {
                        asm!(
                            "/* {0} */",
                            inout($register) * $acc,
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    }
                }
            }
            black_box(all);
            rounds * $count * $macs
        }
    };
}

accumulate!(
    f32_avx512,
    "avx512f",
    __m512,
    zmm_reg,
    16,
    16,
    _mm512_setzero_ps(),
    |acc, x, w| { *acc = _mm512_fmadd_ps(x, w, *acc) }
);
accumulate!(
    u8i8_avx512,
    "avx512f,avx512vnni",
    __m512i,
    zmm_reg,
    16,
    64,
    _mm512_setzero_si512(),
    |acc, x, w| { *acc = _mm512_dpbusd_epi32(*acc, x, w) }
);
/// # Safety
/// AMX-INT8 is available.
pub(super) unsafe fn u8i8_amx(rounds: u64) -> u64 {
    // SAFETY: the caller's promise; registers only, and the tiles are given back.
    unsafe {
        crate::qconv::amx::configure(16, 16);
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "2:",
            "tdpbusd tmm0, tmm4, tmm6", "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6", "tdpbusd tmm3, tmm5, tmm7",
            "dec {0}",
            "jnz 2b",
            inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nomem, nostack)
        );
        crate::qconv::amx::release();
    }
    rounds.max(1) * 4 * 16 * 16 * 64
}

accumulate!(
    i16_avx512,
    "avx512f,avx512vnni",
    __m512i,
    zmm_reg,
    16,
    32,
    _mm512_setzero_si512(),
    |acc, x, w| { *acc = _mm512_dpwssd_epi32(*acc, x, w) }
);
accumulate!(
    bit_avx512,
    "avx512f,avx512vpopcntdq",
    __m512i,
    zmm_reg,
    16,
    512,
    _mm512_setzero_si512(),
    |acc, x, w| {
        // The operand depends on the accumulator, so that it cannot be computed once; the chains stay independent.
        let bits = _mm512_ternarylogic_epi64::<0x96>(x, w, *acc);
        *acc = _mm512_add_epi64(*acc, _mm512_popcnt_epi64(bits))
    }
);
// Written out: the intrinsic wants a feature that functions are not compiled for.
accumulate!(
    u8i8_avxvnni,
    "avx2",
    __m256i,
    ymm_reg,
    12,
    32,
    _mm256_setzero_si256(),
    |acc, x, w| {
        // SAFETY: the caller has AVX-VNNI.
        *acc = unsafe { crate::qconv::avxvnni::dpbusd(*acc, x, w) }
    }
);
accumulate!(
    f32_avx2,
    "avx2,fma",
    __m256,
    ymm_reg,
    12,
    8,
    _mm256_setzero_ps(),
    |acc, x, w| { *acc = _mm256_fmadd_ps(x, w, *acc) }
);
/// # Safety
/// AVX2 is available.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn i16_avx2(rounds: u64) -> u64 {
    const COUNT: usize = 12;
    let (mut x, w) = black_box((_mm256_set1_epi16(3), _mm256_set1_epi16(5)));
    let mut all = [_mm256_setzero_si256(); COUNT];
    for _ in 0..rounds {
        for acc in &mut all {
            // SAFETY: no instruction at all; keeps the compiler from multiplying only once.
            unsafe {
                asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
            }
            *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w));
        }
    }
    black_box(all);
    rounds * (COUNT as u64) * 16
}

/// `vpmaddwd` on bytes widened to 16 bits: `vpmaddubsw` saturates and so is no exact product.
///
/// # Safety
/// AVX2 is available.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn u8i8_avx2(rounds: u64) -> u64 {
    // SAFETY: the same instruction set.
    unsafe { i16_avx2(rounds) }
}

/// Population count by a table of nibbles (`vpshufb`), summed by `vpsadbw`.
///
/// # Safety
/// AVX2 is available.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn bit_avx2(rounds: u64) -> u64 {
    const COUNT: usize = 6;
    let table = black_box(_mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    )));
    let low = _mm256_set1_epi8(0x0f);
    let (mut x, w) = black_box((_mm256_set1_epi8(0x35), _mm256_set1_epi8(0x5a)));
    let mut all = [_mm256_setzero_si256(); COUNT];
    for _ in 0..rounds {
        for acc in &mut all {
            // SAFETY: no instruction at all; keeps the compiler from counting only once.
            unsafe {
                asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
            }
            let bits = _mm256_xor_si256(x, w);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bits), low);
            let counts = _mm256_add_epi8(
                _mm256_shuffle_epi8(table, _mm256_and_si256(bits, low)),
                _mm256_shuffle_epi8(table, high),
            );
            let sums = _mm256_sad_epu8(counts, _mm256_setzero_si256());
            *acc = _mm256_add_epi64(*acc, sums);
        }
    }
    black_box(all);
    rounds * (COUNT as u64) * 256
}

/// # Safety
/// AVX2 is available.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn sum_avx2(values: &[i32]) -> i32 {
    super::wrapping_sum(values)
}
