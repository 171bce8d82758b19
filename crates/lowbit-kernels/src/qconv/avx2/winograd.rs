//! The transforms of Winograd's way: rows to points and back, sixteen numbers of 16 bits or eight of 32 at a time.

use crate::AlignedBuffer;
use crate::qconv::layout::PanelShape;
use crate::qconv::microkernel::{KernelData, PerChannel, TileSums};
use std::arch::x86_64::*;

/// Points at which rows are multiplied.
pub(in crate::qconv) const POINTS: usize = 8;
/// Most kernel rows whose weights fit 16 bits at the point 3: Σ 3^j · 128 for five of them.
pub(in crate::qconv) const MOST_ROWS: usize = 5;
/// Lanes of a vector of 16-bit numbers.
pub(in crate::qconv) const LANES: usize = 16;

/// V_p of `there` input rows of `taps` taps, `row_stride` apart (those that are not there being zeros), into
/// `[point, taps rounded up to LANES]`.
///
/// # Safety
/// AVX2 is available.
#[target_feature(enable = "avx2")]
pub(in crate::qconv) unsafe fn transform_rows(
    from: &[u8],
    there: usize,
    row_stride: usize,
    taps: usize,
    to: &mut [i16],
) {
    let row_len = to.len() / POINTS;
    let times = |x, factor| _mm256_mullo_epi16(x, _mm256_set1_epi16(factor));
    let sum = |a, b, c| _mm256_add_epi16(_mm256_add_epi16(a, b), c);
    let from = |row: usize, first: usize| &from[row * row_stride + first..];
    for first in (0..taps).step_by(LANES) {
        let mut x = [_mm256_setzero_si256(); POINTS];
        for (row, x) in x.iter_mut().enumerate().take(there) {
            let left = (taps - first).min(LANES);
            let bytes = &from(row, first)[..left];
            let mut padded = [0; LANES];
            let at = if left == LANES {
                bytes.as_ptr()
            } else {
                padded[..left].copy_from_slice(bytes);
                padded.as_ptr()
            };
            // SAFETY: sixteen bytes are there.
            *x = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(at.cast()) });
        }
        let polynomial = |low: usize| {
            let high = sum(times(x[low + 4], -14), x[low + 6], times(x[low + 2], 49));
            _mm256_add_epi16(times(x[low], -36), high)
        };
        let points = [
            // P(z) / (z ∓ p) = (z² ± p·z) · (z⁴ − …): even and odd powers apart.
            (
                sum(times(x[4], -13), x[6], times(x[2], 36)),
                sum(times(x[3], -13), x[5], times(x[1], 36)),
            ),
            (
                sum(times(x[4], -10), x[6], times(x[2], 9)),
                sum(times(x[3], -20), times(x[5], 2), times(x[1], 18)),
            ),
            (
                sum(times(x[4], -5), x[6], times(x[2], 4)),
                sum(times(x[3], -15), times(x[5], 3), times(x[1], 12)),
            ),
        ];
        let mut put = |point: usize, value| {
            let to = &mut to[point * row_len + first..][..LANES];
            // SAFETY: sixteen numbers of 16 bits are there.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
        };
        put(0, polynomial(0));
        for (pair, (even, odd)) in points.into_iter().enumerate() {
            put(1 + 2 * pair, _mm256_add_epi16(even, odd));
            put(2 + 2 * pair, _mm256_sub_epi16(even, odd));
        }
        put(7, polynomial(1));
    }
}

/// U_p of a packed panel, `[point, …]`, into `panel`. `whole` is room to unpack.
///
/// # Safety
/// AVX2 is available; `packed` holds the panel, of `kernel_h` times `shape.segments` segments, in the format of `kernels`.
#[target_feature(enable = "avx2")]
pub(in crate::qconv) unsafe fn transform_panel(
    kernels: &KernelData,
    packed: *const u8,
    kernel_h: usize,
    shape: PanelShape,
    whole: &mut AlignedBuffer<u8>,
    panel: &mut AlignedBuffer<i16>,
) {
    let steps = shape.segments * shape.steps;
    let row_len = point_len(shape);
    panel.reserve(POINTS * row_len);
    let mut from = packed;
    if let Some(unpack) = kernels.unpack {
        whole.reserve(kernel_h * row_len * 2);
        // SAFETY: the caller's promises, and room for all weights.
        unsafe { (unpack.panel)(packed, kernel_h * steps, shape.vectors, whole.as_mut_ptr()) };
        from = whole.as_ptr();
    }
    let times = |x, factor| _mm256_mullo_epi16(x, _mm256_set1_epi16(factor));
    let sum = |a, b, c| _mm256_add_epi16(_mm256_add_epi16(a, b), c);
    for first in (0..row_len).step_by(LANES) {
        let mut w = [_mm256_setzero_si256(); MOST_ROWS];
        for (row, w) in w.iter_mut().enumerate().take(kernel_h) {
            // SAFETY: the panel holds `kernel_h` times `row_len` numbers, aligned to vectors.
            *w = unsafe { _mm256_load_si256(from.add((row * row_len + first) * 2).cast()) };
        }
        let mut put = |point: usize, value| {
            let to = &mut panel[point * row_len + first..][..LANES];
            // SAFETY: sixteen numbers of 16 bits are there.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
        };
        put(0, w[0]);
        for p in 1..=3 {
            let p2 = p * p;
            let even = sum(w[0], times(w[2], p2), times(w[4], p2 * p2));
            let odd = _mm256_add_epi16(times(w[1], p), times(w[3], p2 * p));
            put(2 * p as usize - 1, _mm256_add_epi16(even, odd));
            put(2 * p as usize, _mm256_sub_epi16(even, odd));
        }
        put(7, w[kernel_h - 1]);
    }
}

/// Numbers of a kernel row's weights, or of a point's: its steps times vectors of 32 bytes. The segments are those of one
/// kernel row.
pub(in crate::qconv) fn point_len(shape: PanelShape) -> usize {
    shape.segments * shape.steps * shape.vectors * LANES
}

/// 1/45 modulo 2³².
const INVERSE_OF_45: i32 = {
    // Each of Newton's steps doubles the bits that are right; 45 · 45 = 1 modulo 8.
    let mut inverse = 45i32;
    let mut bits = 3;
    while bits < 32 {
        inverse = inverse.wrapping_mul(2i32.wrapping_sub(45i32.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
};

/// Turns M_p into what is stored, in place: `sums[point]` of `pixels · pool` pixels of `width` channels become the stored rows
/// `sums[row]` of `pixels` pixels.
///
/// # Safety
/// AVX2 is available, `pixels · pool · width` numbers fit into a tile, and `width` is a multiple of 8.
pub(in crate::qconv) unsafe fn finish(
    sums: &mut [TileSums; POINTS],
    pixels: usize,
    width: usize,
    start: &PerChannel<i32>,
    (kernel_h, pool): (usize, usize),
) {
    // SAFETY: the caller's promises.
    unsafe {
        match (kernel_h, pool) {
            (2, 1) => finish_rows::<7, 1>(sums, pixels, width, start),
            (3, 1) => finish_rows::<6, 1>(sums, pixels, width, start),
            (4, 1) => finish_rows::<5, 1>(sums, pixels, width, start),
            (5, 1) => finish_rows::<4, 1>(sums, pixels, width, start),
            (2, 2) => finish_rows::<7, 2>(sums, pixels, width, start),
            (3, 2) => finish_rows::<6, 2>(sums, pixels, width, start),
            (4, 2) => finish_rows::<5, 2>(sums, pixels, width, start),
            (5, 2) => finish_rows::<4, 2>(sums, pixels, width, start),
            _ => unreachable!("`is_profitable` takes 2 to {MOST_ROWS} rows, pooling is by 1 or 2"),
        }
    }
}

/// # Safety
/// As [`finish`]; `ROWS` rows come from the points, and all are needed unless one is left over by pooling.
#[target_feature(enable = "avx2")]
unsafe fn finish_rows<const ROWS: usize, const POOL: usize>(
    sums: &mut [TileSums; POINTS],
    pixels: usize,
    width: usize,
    start: &PerChannel<i32>,
) {
    for channel in (0..width).step_by(8) {
        // SAFETY: (whole body) the tiles hold `pixels · POOL · width` numbers, aligned to vectors, and `start` more than
        // `width`. A pixel is written behind those that were read for it and its predecessors, or in their place.
        let start = unsafe { _mm256_load_si256(start.0.as_ptr().add(channel).cast()) };
        for pixel in 0..pixels {
            let mut rows = [start; ROWS];
            for column in 0..POOL {
                let at = (pixel * POOL + column) * width + channel;
                let products = std::array::from_fn(|point| unsafe {
                    _mm256_load_si256(sums[point].0.as_ptr().add(at).cast())
                });
                for (row, y) in rows.iter_mut().zip(results::<ROWS>(products)) {
                    let sum = _mm256_add_epi32(y, start);
                    *row = if column == 0 {
                        sum
                    } else {
                        _mm256_max_epi32(*row, sum)
                    };
                }
            }
            for (stored, rows) in rows.chunks_exact(POOL).enumerate() {
                let best = rows[1..]
                    .iter()
                    .fold(rows[0], |a, &b| _mm256_max_epi32(a, b));
                let to = &raw mut sums[stored].0;
                unsafe {
                    let to = to.cast::<i32>().add(pixel * width + channel);
                    _mm256_store_si256(to.cast(), best);
                }
            }
        }
    }
}

/// y_t of M_p.
#[inline]
#[target_feature(enable = "avx2")]
fn results<const ROWS: usize>(m: [__m256i; POINTS]) -> [__m256i; ROWS] {
    let add = |a, b| _mm256_add_epi32(a, b);
    let add3 = |a, b, c| add(add(a, b), c);
    let times = |x, factor: i32| {
        _mm256_mullo_epi32(x, _mm256_set1_epi32(INVERSE_OF_45.wrapping_mul(factor)))
    };
    let times_3 = |x| add3(x, x, x);
    let times_9 = |x| add(_mm256_slli_epi32::<3>(x), x);
    // Σ p^t / P'(p) · M_p over p and −p: the even powers t have the sum of both, the odd ones the difference.
    let both = |pair: usize, factor| {
        let (plus, minus) = (m[2 * pair - 1], m[2 * pair]);
        (
            times(add(plus, minus), factor),
            times(_mm256_sub_epi32(plus, minus), factor),
        )
    };
    let [(even_1, odd_1), (mut even_2, odd_2), (mut even_3, odd_3)] =
        [both(1, 15), both(2, -6), both(3, 1)];
    let (mut odd_2, mut odd_3) = (_mm256_slli_epi32::<1>(odd_2), times_3(odd_3));
    let zero = times(m[0], -20);
    let infinity = _mm256_slli_epi32::<4>(m[7]);
    std::array::from_fn(|t| {
        let scaled = if t % 2 == 0 {
            add3(even_1, even_2, even_3)
        } else {
            add3(odd_1, odd_2, odd_3)
        };
        let (twos, threes) = if t % 2 == 0 {
            (&mut even_2, &mut even_3)
        } else {
            (&mut odd_2, &mut odd_3)
        };
        *twos = _mm256_slli_epi32::<2>(*twos);
        *threes = times_9(*threes);
        let scaled = if t == 0 { add(scaled, zero) } else { scaled };
        let scaled = if t + 1 == ROWS {
            add(scaled, infinity)
        } else {
            scaled
        };
        _mm256_srai_epi32::<4>(scaled)
    })
}
