//! Vectors of bytes of 16, 32 and 64 channels, with what the kernels need of them.

use std::arch::x86_64::*;

/// Bytes of neighboring channels, or sums of a quarter of them: 128 bits of a vector hold four of each sixteen channels.
///
/// # Safety
/// The functions may only run where AVX-512 F, BW, DQ, VL and VNNI are; pointers must be readable or writable for as many
/// bytes or floats as a vector has, or as the function says.
pub(super) trait ByteVector: Copy + 'static {
    /// Channels of which a vector holds a byte each.
    const CHANNELS: usize;
    type Floats: Copy;

    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    unsafe fn store_some(self, to: *mut u8, count: usize);
    unsafe fn zero() -> Self;
    unsafe fn bytes(value: u8) -> Self;
    unsafe fn words(value: i16) -> Self;
    /// The bytes of both in turns: of the lower and of the upper half of each 128 bits.
    unsafe fn mix_bytes(self, with: Self) -> [Self; 2];
    /// The same with pairs of bytes.
    unsafe fn mix_words(self, with: Self) -> [Self; 2];
    /// Adds the products of four bytes of `x` with four of `w`, which have a sign.
    unsafe fn dot(self, x: Self, w: Self) -> Self;
    unsafe fn max_bytes(self, with: Self) -> Self;
    unsafe fn min_bytes(self, with: Self) -> Self;
    unsafe fn add_words(self, with: Self) -> Self;
    /// Narrows 32 bits to 16, within each 128.
    unsafe fn to_words(self, with: Self) -> Self;
    /// Narrows 16 bits to bytes without a sign, within each 128.
    unsafe fn to_bytes(self, with: Self) -> Self;
    unsafe fn to_floats(self) -> Self::Floats;
    /// Rounds to nearest, ties to even.
    unsafe fn of_floats(of: Self::Floats) -> Self;
    unsafe fn load_floats(from: *const f32) -> Self::Floats;
    unsafe fn store_floats(of: Self::Floats, to: *mut f32);
    unsafe fn floats(value: f32) -> Self::Floats;
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn nearest(of: Self::Floats) -> Self::Floats;
}

macro_rules! vector {
    (
        $vector:ty, $floats:ty, $channels:literal, $mask:ty,
        $loadu:ident $storeu:ident $mask_storeu:ident $zero:ident $set8:ident $set16:ident
        $lo8:ident $hi8:ident $lo16:ident $hi16:ident $dot:ident $max8:ident $min8:ident $add16:ident $packs:ident $packus:ident
        $to_floats:ident $of_floats:ident $load_floats:ident $store_floats:ident $set_float:ident
        $fma:ident $add:ident $max:ident $min:ident $round:ident
    ) => {
        impl ByteVector for $vector {
            const CHANNELS: usize = $channels;
            type Floats = $floats;

            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                // SAFETY: (of each function here) the caller's promises.
                unsafe { $loadu(from.cast()) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                unsafe { $storeu(to.cast(), self) }
            }
            #[inline(always)]
            unsafe fn store_some(self, to: *mut u8, count: usize) {
                let all = <$mask>::MAX;
                unsafe { $mask_storeu(to.cast(), all >> ($channels - count), self) }
            }
            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn bytes(value: u8) -> Self {
                unsafe { $set8(value.cast_signed()) }
            }
            #[inline(always)]
            unsafe fn words(value: i16) -> Self {
                unsafe { $set16(value) }
            }
            #[inline(always)]
            unsafe fn mix_bytes(self, with: Self) -> [Self; 2] {
                unsafe { [$lo8(self, with), $hi8(self, with)] }
            }
            #[inline(always)]
            unsafe fn mix_words(self, with: Self) -> [Self; 2] {
                unsafe { [$lo16(self, with), $hi16(self, with)] }
            }
            #[inline(always)]
            unsafe fn dot(self, x: Self, w: Self) -> Self {
                unsafe { $dot(self, x, w) }
            }
            #[inline(always)]
            unsafe fn max_bytes(self, with: Self) -> Self {
                unsafe { $max8(self, with) }
            }
            #[inline(always)]
            unsafe fn min_bytes(self, with: Self) -> Self {
                unsafe { $min8(self, with) }
            }
            #[inline(always)]
            unsafe fn add_words(self, with: Self) -> Self {
                unsafe { $add16(self, with) }
            }
            #[inline(always)]
            unsafe fn to_words(self, with: Self) -> Self {
                unsafe { $packs(self, with) }
            }
            #[inline(always)]
            unsafe fn to_bytes(self, with: Self) -> Self {
                unsafe { $packus(self, with) }
            }
            #[inline(always)]
            unsafe fn to_floats(self) -> Self::Floats {
                unsafe { $to_floats(self) }
            }
            #[inline(always)]
            unsafe fn of_floats(of: Self::Floats) -> Self {
                unsafe { $of_floats(of) }
            }
            #[inline(always)]
            unsafe fn load_floats(from: *const f32) -> Self::Floats {
                unsafe { $load_floats(from) }
            }
            #[inline(always)]
            unsafe fn store_floats(of: Self::Floats, to: *mut f32) {
                unsafe { $store_floats(to, of) }
            }
            #[inline(always)]
            unsafe fn floats(value: f32) -> Self::Floats {
                unsafe { $set_float(value) }
            }
            #[inline(always)]
            unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats {
                unsafe { $min(a, b) }
            }
            #[inline(always)]
            unsafe fn nearest(of: Self::Floats) -> Self::Floats {
                unsafe { $round::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(of) }
            }
        }
    };
}

vector! {
    __m128i, __m128, 16, __mmask16,
    _mm_loadu_si128 _mm_storeu_si128 _mm_mask_storeu_epi8 _mm_setzero_si128 _mm_set1_epi8 _mm_set1_epi16
    _mm_unpacklo_epi8 _mm_unpackhi_epi8 _mm_unpacklo_epi16 _mm_unpackhi_epi16 _mm_dpbusd_epi32
    _mm_max_epu8 _mm_min_epu8 _mm_adds_epi16 _mm_packs_epi32 _mm_packus_epi16
    _mm_cvtepi32_ps _mm_cvtps_epi32 _mm_loadu_ps _mm_storeu_ps _mm_set1_ps
    _mm_fmadd_ps _mm_add_ps _mm_max_ps _mm_min_ps _mm_roundscale_ps
}

vector! {
    __m256i, __m256, 32, __mmask32,
    _mm256_loadu_si256 _mm256_storeu_si256 _mm256_mask_storeu_epi8 _mm256_setzero_si256 _mm256_set1_epi8 _mm256_set1_epi16
    _mm256_unpacklo_epi8 _mm256_unpackhi_epi8 _mm256_unpacklo_epi16 _mm256_unpackhi_epi16 _mm256_dpbusd_epi32
    _mm256_max_epu8 _mm256_min_epu8 _mm256_adds_epi16 _mm256_packs_epi32 _mm256_packus_epi16
    _mm256_cvtepi32_ps _mm256_cvtps_epi32 _mm256_loadu_ps _mm256_storeu_ps _mm256_set1_ps
    _mm256_fmadd_ps _mm256_add_ps _mm256_max_ps _mm256_min_ps _mm256_roundscale_ps
}

vector! {
    __m512i, __m512, 64, __mmask64,
    _mm512_loadu_si512 _mm512_storeu_si512 _mm512_mask_storeu_epi8 _mm512_setzero_si512 _mm512_set1_epi8 _mm512_set1_epi16
    _mm512_unpacklo_epi8 _mm512_unpackhi_epi8 _mm512_unpacklo_epi16 _mm512_unpackhi_epi16 _mm512_dpbusd_epi32
    _mm512_max_epu8 _mm512_min_epu8 _mm512_adds_epi16 _mm512_packs_epi32 _mm512_packus_epi16
    _mm512_cvtepi32_ps _mm512_cvtps_epi32 _mm512_loadu_ps _mm512_storeu_ps _mm512_set1_ps
    _mm512_fmadd_ps _mm512_add_ps _mm512_max_ps _mm512_min_ps _mm512_roundscale_ps
}
