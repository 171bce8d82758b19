//! The rounding rule for four vectors of sums at once.

use super::Requantize;
use std::arch::x86_64::*;

/// What all bytes of a call have in common, for [ordinary](Requantize::is_ordinary) constants.
pub(crate) struct Levels {
    low: __m256i,
    high: __m256i,
    zero_point: __m256i,
}

/// Multipliers and biases of eight channels.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) multiplier: __m256,
    pub(crate) bias: __m256,
}

impl Levels {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn new(requantize: &Requantize<'_>) -> Self {
        Self {
            low: _mm256_set1_epi8(requantize.low.cast_signed()),
            high: _mm256_set1_epi8(requantize.high.cast_signed()),
            zero_point: _mm256_set1_epi16(requantize.zero_point as i16),
        }
    }

    /// The bytes of four vectors of eight sums, one vector's behind the other's. They are cut last: a number above 2³⁰ is
    /// far beyond every level, one that does not fit i32 from below becomes i32::MIN, and narrowing saturates.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn of(&self, factors: [Factors; 4], sums: [__m256i; 4]) -> __m256i {
        let large = _mm256_set1_ps(1_073_741_824.0);
        let whole = |of: usize| {
            let acc = _mm256_cvtepi32_ps(sums[of]);
            let real = _mm256_fmadd_ps(acc, factors[of].multiplier, factors[of].bias);
            _mm256_cvtps_epi32(_mm256_min_ps(real, large))
        };
        let words = |of: usize| {
            let words = _mm256_packs_epi32(whole(of), whole(of + 1));
            _mm256_adds_epi16(words, self.zero_point)
        };
        let bytes = _mm256_packus_epi16(words(0), words(2));
        let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, self.low), self.high);
        in_order(bytes)
    }
}

/// The bytes of four vectors that were narrowed twice, which leaves four of each and then the other four, in their order.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn in_order(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}
