//! AVX-512 VNNI: `vpdpbusd` multiplies four taps of one pixel with four taps of sixteen output channels.

use crate::Isa;
use crate::tiles::{Family, Microkernel, PanelLayout, TileCall};
use std::arch::asm;
use std::arch::x86_64::*;

/// Panels of 2 vectors of 16 channels, 4 taps a step.
pub(super) static FAMILY: Family = Family {
    isa: Isa::Avx512,
    element_bytes: 1,
    layout: PanelLayout {
        lanes: 16,
        vectors: 2,
        step_taps: 4,
    },
    tap_bytes: (1, 1),
    plain: &[&PLAIN_1, &PLAIN_2],
    pooled: &[&POOLED_1, &POOLED_2],
};

macro_rules! plain {
    ($vectors:literal: $($columns:literal x $phases:literal),*) => {
        [$(tile::<1, $columns, $vectors, $phases>),*]
    };
}

// Where a tile has fewer accumulators than the instruction's latency needs, the steps alternate between `phases` sets.
static PLAIN_1: [Microkernel; 14] = plain!(1: 1 x 4, 2 x 4, 3 x 4, 4 x 2, 5 x 2, 6 x 2, 7 x 1, 8 x 1, 9 x 1, 10 x 1,
    11 x 1, 12 x 1, 13 x 1, 14 x 1);
static PLAIN_2: [Microkernel; 14] = plain!(2: 1 x 4, 2 x 2, 3 x 2, 4 x 1, 5 x 1, 6 x 1, 7 x 1, 8 x 1, 9 x 1, 10 x 1,
    11 x 1, 12 x 1, 13 x 1, 14 x 1);
static POOLED_1: [Microkernel; 3] = [tile::<2, 2, 1, 2>, tile::<2, 4, 1, 1>, tile::<2, 6, 1, 1>];
static POOLED_2: [Microkernel; 3] = [tile::<2, 2, 2, 1>, tile::<2, 4, 2, 1>, tile::<2, 6, 2, 1>];

/// Hides how an offset was computed, so that the compiler keeps the pointer made with it in a register of its own and
/// addresses the pixels from it, instead of keeping one pointer per pixel (which spills).
#[inline(always)]
fn opaque(mut offset: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) offset, options(pure, nomem, nostack, preserves_flags)) };
    offset
}

/// Runs the body for each column, unrolled in the source: the compiler gives up on the widest tiles.
macro_rules! each_column {
    ($count:expr, |$c:ident| $body:block) => {
        each_column!($count, $c, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($count:expr, $c:ident, $body:block, $($index:literal)*) => {
        $(
            if $index < $count {
                let $c = $index;
                $body
            }
        )*
    };
}

/// The sums of `ROWS` × `COLUMNS` pixels and `VECTORS` vectors of channels; with two rows, their 2×2 maxima.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<
    const ROWS: usize,
    const COLUMNS: usize,
    const VECTORS: usize,
    const PHASES: usize,
>(
    call: &TileCall,
) {
    // SAFETY (whole body): the caller promises that every segment of every pixel of the tile and the whole panel can be
    // read, and that `sums` can be written; `start` and `sums` hold MAX_PANEL and TILE_LEN numbers, which is at least
    // VECTORS · 16 and COLUMNS · VECTORS · 16 for every tile shape in the tables above.
    unsafe {
        let step = call.column_step;
        let mut weights = call.panel.cast::<__m512i>();
        let mut acc = [[[[_mm512_setzero_si512(); VECTORS]; COLUMNS]; ROWS]; PHASES];
        for v in 0..VECTORS {
            let start = _mm512_load_si512(call.start.0.as_ptr().add(v * 16).cast());
            for row in &mut acc[0] {
                for pixel in row {
                    pixel[v] = start;
                }
            }
        }
        for kernel_row in 0..call.segments.rows {
            for kernel_column in 0..call.segments.columns {
                let first = call.input.add(
                    kernel_row * call.segment_row_step + kernel_column * call.segment_column_step,
                );
                // One base for each three pixels: `base`, `base + step`, `base + 2 · step` are x86 addresses.
                let mut bases = [[first; 5]; ROWS];
                for (r, row) in bases.iter_mut().enumerate() {
                    for (third, base) in row.iter_mut().enumerate().take(COLUMNS.div_ceil(3)) {
                        *base = first.wrapping_add(opaque(r * call.row_step + 3 * third * step));
                    }
                }
                let mut multiply = |acc: &mut [[[__m512i; VECTORS]; COLUMNS]; ROWS]| {
                    let mut w = [_mm512_setzero_si512(); VECTORS];
                    for vector in &mut w {
                        *vector = _mm512_load_si512(weights);
                        weights = weights.add(1);
                    }
                    for r in 0..ROWS {
                        each_column!(COLUMNS, |c| {
                            let taps = bases[r][c / 3].wrapping_add(c % 3 * step);
                            let x = _mm512_set1_epi32(taps.cast::<i32>().read_unaligned());
                            for v in 0..VECTORS {
                                acc[r][c][v] = _mm512_dpbusd_epi32(acc[r][c][v], x, w[v]);
                            }
                        });
                        for base in bases[r].iter_mut().take(COLUMNS.div_ceil(3)) {
                            *base = base.wrapping_add(4);
                        }
                    }
                };
                for _ in 0..call.steps / PHASES {
                    for phase in &mut acc {
                        multiply(phase);
                    }
                }
                for _ in 0..call.steps % PHASES {
                    multiply(&mut acc[0]);
                }
            }
        }
        let (total, others) = acc.split_at_mut(1);
        for phase in others {
            for r in 0..ROWS {
                for c in 0..COLUMNS {
                    for (sum, &part) in total[0][r][c].iter_mut().zip(&phase[r][c]) {
                        *sum = _mm512_add_epi32(*sum, part);
                    }
                }
            }
        }
        let acc = &total[0];
        let mut sums = call.sums.cast::<__m512i>();
        for c in (0..COLUMNS).step_by(ROWS) {
            for (v, &first) in acc[0][c].iter().enumerate() {
                let mut sum = first;
                if ROWS == 2 {
                    let right = _mm512_max_epi32(acc[0][c + 1][v], acc[1][c + 1][v]);
                    sum = _mm512_max_epi32(_mm512_max_epi32(sum, acc[1][c][v]), right);
                }
                _mm512_store_si512(sums, sum);
                sums = sums.add(1);
            }
        }
    }
}
