//! AVX2: `vpmaddwd` multiplies two taps of one pixel, widened to 16 bits, with two taps of eight output channels.
//! (`vpmaddubsw` would take bytes, but saturates: 2 · 255 · 127 > 32767.)

use crate::Isa;
use crate::tiles::{Family, Microkernel, PanelLayout, TileCall};
use std::arch::asm;
use std::arch::x86_64::*;

/// Panels of 2 vectors of 8 channels, weights as i16, 2 taps a step.
pub(super) static FAMILY: Family = Family {
    isa: Isa::Avx2,
    element_bytes: 2,
    layout: PanelLayout {
        lanes: 8,
        vectors: 2,
        step_taps: 2,
    },
    tap_bytes: (2, 1),
    plain: &[&PLAIN_1, &PLAIN_2],
    pooled: &[&POOLED_1, &POOLED_2],
};

// The accumulators' chain is one addition (1 cycle), so that few of them suffice; 12 leave room for the operands.
static PLAIN_1: [Microkernel; 6] = [
    plain::<1, 1>,
    plain::<2, 1>,
    plain::<3, 1>,
    plain::<4, 1>,
    plain::<5, 1>,
    plain::<6, 1>,
];
static PLAIN_2: [Microkernel; 6] = [
    plain::<1, 2>,
    plain::<2, 2>,
    plain::<3, 2>,
    plain::<4, 2>,
    plain::<5, 2>,
    plain::<6, 2>,
];
static POOLED_1: [Microkernel; 3] = [pooled::<2, 1>, pooled::<4, 1>, pooled::<6, 1>];
static POOLED_2: [Microkernel; 3] = [pooled::<2, 2>, pooled::<4, 2>, pooled::<6, 2>];

/// Hides how an offset was computed, so that the compiler keeps the pointer made with it in a register of its own and
/// addresses the pixels from it, instead of keeping one pointer per pixel (which spills).
#[inline(always)]
fn opaque(mut offset: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) offset, options(pure, nomem, nostack, preserves_flags)) };
    offset
}

/// The sums of `COLUMNS` pixels and `VECTORS` vectors of channels.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx2")]
unsafe fn plain<const COLUMNS: usize, const VECTORS: usize>(call: &TileCall) {
    // SAFETY: the caller's promises, and `sums` holds TILE_LEN numbers, more than 6 · 16.
    unsafe {
        let acc = products::<COLUMNS, VECTORS>(call, call.input);
        let mut sums = call.sums.cast::<__m256i>();
        for sum in acc.as_flattened() {
            _mm256_store_si256(sums, *sum);
            sums = sums.add(1);
        }
    }
}

/// The 2×2 maxima of two rows of `COLUMNS` pixels: twelve accumulators are one row's, so the rows go one after the other.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx2")]
unsafe fn pooled<const COLUMNS: usize, const VECTORS: usize>(call: &TileCall) {
    // SAFETY: as in `plain`; the second row belongs to the tile.
    unsafe {
        let top = products::<COLUMNS, VECTORS>(call, call.input);
        let mut sums = call.sums.cast::<__m256i>();
        for (c, pair) in top.chunks_exact(2).enumerate() {
            for v in 0..VECTORS {
                let sum = _mm256_max_epi32(pair[0][v], pair[1][v]);
                _mm256_store_si256(sums.add(c * VECTORS + v), sum);
            }
        }
        let bottom = products::<COLUMNS, VECTORS>(call, call.input.add(call.row_step));
        for pair in bottom.chunks_exact(2) {
            for v in 0..VECTORS {
                let sum = _mm256_max_epi32(pair[0][v], pair[1][v]);
                _mm256_store_si256(sums, _mm256_max_epi32(sum, _mm256_load_si256(sums)));
                sums = sums.add(1);
            }
        }
    }
}

/// The accumulators of `COLUMNS` pixels from `input` on.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn products<const COLUMNS: usize, const VECTORS: usize>(
    call: &TileCall,
    input: *const u8,
) -> [[__m256i; VECTORS]; COLUMNS] {
    // SAFETY (whole body): the caller promises that every segment of every pixel of the tile and the whole panel can be
    // read; `start` holds MAX_PANEL numbers, at least VECTORS · 8.
    unsafe {
        let step = call.column_step;
        let mut weights = call.panel.cast::<__m256i>();
        let mut acc = [[_mm256_setzero_si256(); VECTORS]; COLUMNS];
        for pixel in &mut acc {
            for (v, sum) in pixel.iter_mut().enumerate() {
                *sum = _mm256_load_si256(call.start.0.as_ptr().add(v * 8).cast());
            }
        }
        for kernel_row in 0..call.segments.rows {
            for kernel_column in 0..call.segments.columns {
                let near = input.add(
                    kernel_row * call.segment_row_step + kernel_column * call.segment_column_step,
                );
                // `base`, `base + step`, `base + 2 · step` are x86 addresses: two bases for six pixels.
                let far = near.wrapping_add(opaque(3 * step));
                let mut bases = [near, far];
                let mut multiply = |bases: [*const u8; 2], offset: usize| {
                    let w: [__m256i; VECTORS] =
                        std::array::from_fn(|v| _mm256_load_si256(weights.add(v)));
                    weights = weights.add(VECTORS);
                    for (c, pixel) in acc.iter_mut().enumerate() {
                        let taps = bases[c / 3].wrapping_add(c % 3 * step + offset);
                        let x = _mm256_set1_epi32(taps.cast::<i32>().read_unaligned());
                        for (sum, &w) in pixel.iter_mut().zip(&w) {
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                        }
                    }
                };
                for _ in 0..call.steps / 2 {
                    multiply(bases, 0);
                    multiply(bases, 4);
                    bases = bases.map(|base| base.wrapping_add(8));
                }
                if call.steps % 2 == 1 {
                    multiply(bases, 0);
                }
            }
        }
        acc
    }
}
