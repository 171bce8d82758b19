//! Register tiles of AVX-512: each step takes four bytes of activations per pixel and vectors of sixteen output channels.

use super::{Family, Microkernel, PanelLayout, TileCall, Unpack};
use crate::Level;
use std::arch::asm;
use std::arch::x86_64::*;

/// A weight format: how a vector of weights is read, multiplied and what the sums mean.
///
/// # Safety
/// Its functions need AVX-512 F, BW, DQ, VL and VNNI, unless it says more. They are inlined into functions compiled for
/// these, and read `VECTOR_BYTES` bytes at `weights`' pointer, nothing else.
pub(crate) unsafe trait Format {
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

struct Table<F>(std::marker::PhantomData<F>);

macro_rules! plain {
    ($vectors:literal: $($columns:literal x $phases:literal),*) => {
        [$(tile::<F, 1, $columns, $vectors, $phases>),*]
    };
}

// Where a tile has fewer accumulators than the instruction's latency needs, the steps alternate between `phases` sets.
impl<F: Format> Table<F> {
    const PLAIN_1: [Microkernel; 14] = plain!(1: 1 x 4, 2 x 4, 3 x 4, 4 x 2, 5 x 2, 6 x 2, 7 x 1, 8 x 1, 9 x 1, 10 x 1,
        11 x 1, 12 x 1, 13 x 1, 14 x 1);
    const PLAIN_2: [Microkernel; 14] = plain!(2: 1 x 4, 2 x 2, 3 x 2, 4 x 1, 5 x 1, 6 x 1, 7 x 1, 8 x 1, 9 x 1, 10 x 1,
        11 x 1, 12 x 1, 13 x 1, 14 x 1);
    const POOLED_1: [Microkernel; 3] = [
        tile::<F, 2, 2, 1, 2>,
        tile::<F, 2, 4, 1, 1>,
        tile::<F, 2, 6, 1, 1>,
    ];
    const POOLED_2: [Microkernel; 3] = [
        tile::<F, 2, 2, 2, 1>,
        tile::<F, 2, 4, 2, 1>,
        tile::<F, 2, 6, 2, 1>,
    ];
}

/// The micro-kernels of a format of whole weights: panels of two vectors of sixteen channels.
pub(crate) const fn family<F: Format>() -> Family {
    family_with::<F>(None)
}

/// The same of a format of narrow weights, which `bytes` can read once they are unpacked.
pub(crate) const fn packed_family<F: Format>(bytes: &'static Family) -> Family {
    family_with::<F>(Some(Unpack {
        family: bytes,
        panel: unpack_panel::<F>,
    }))
}

const fn family_with<F: Format>(unpack: Option<Unpack>) -> Family {
    Family {
        isa: Level::Avx512,
        unpack,
        expand: match F::BYTES_SHIFTED_BY {
            Some(_) => Some(super::amx::expand_panel::<F>),
            None => None,
        },
        element_bytes: F::ELEMENT_BYTES,
        layout: PanelLayout {
            lanes: 16,
            vectors: 2,
            step_taps: F::STEP_TAPS,
            block_steps: 1,
            block_bytes: F::VECTOR_BYTES,
        },
        plain: &[&Table::<F>::PLAIN_1, &Table::<F>::PLAIN_2],
        pooled: &[&Table::<F>::POOLED_1, &Table::<F>::POOLED_2],
    }
}

/// Weights of one vector and step as the bytes that they are.
///
/// # Safety
/// As [`Format::weights`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn bytes<F: Format>(at: *const u8) -> __m512i {
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

/// # Safety
/// As [`UnpackPanel`](super::UnpackPanel).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn unpack_panel<F: Format>(panel: *const u8, steps: usize, vectors: usize, to: *mut u8) {
    for vector in 0..steps * vectors {
        // SAFETY: the caller's promises.
        unsafe {
            let weights = bytes::<F>(panel.add(vector * F::VECTOR_BYTES));
            _mm512_store_si512(to.add(vector * 64).cast(), weights);
        }
    }
}

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

/// Accumulators of `ROWS` × `COLUMNS` pixels and `VECTORS` vectors of channels.
type Acc<const ROWS: usize, const COLUMNS: usize, const VECTORS: usize> =
    [[[__m512i; VECTORS]; COLUMNS]; ROWS];

/// The sums of `ROWS` × `COLUMNS` pixels and `VECTORS` vectors of channels; with two rows, their 2×2 maxima.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<
    F: Format,
    const ROWS: usize,
    const COLUMNS: usize,
    const VECTORS: usize,
    const PHASES: usize,
>(
    call: &TileCall,
) {
    // SAFETY: (whole body) the caller promises that `sums` can be written, which holds TILE_LEN numbers: at least
    // COLUMNS · VECTORS · 16 for every tile shape in the tables above; `start` holds MAX_PANEL, at least VECTORS · 16.
    unsafe {
        let start: [__m512i; VECTORS] =
            std::array::from_fn(|v| _mm512_load_si512(call.start.0.as_ptr().add(v * 16).cast()));
        let mut acc = products::<F, ROWS, COLUMNS, VECTORS, PHASES>(call, &start);
        for pixel in acc.as_flattened_mut() {
            for (sum, &start) in pixel.iter_mut().zip(&start) {
                *sum = F::finish(*sum, start);
            }
        }
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

/// The accumulators of a tile.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn products<
    F: Format,
    const ROWS: usize,
    const COLUMNS: usize,
    const VECTORS: usize,
    const PHASES: usize,
>(
    call: &TileCall,
    start: &[__m512i; VECTORS],
) -> Acc<ROWS, COLUMNS, VECTORS> {
    // SAFETY: (whole body) the caller promises that every segment of every pixel of the tile and the whole panel can be
    // read.
    unsafe {
        let step = call.column_step;
        let mut weights = call.panel;
        let mut acc = [[[[_mm512_setzero_si512(); VECTORS]; COLUMNS]; ROWS]; PHASES];
        if F::START_FIRST {
            acc[0] = [[*start; COLUMNS]; ROWS];
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
                let mut multiply = |acc: &mut Acc<ROWS, COLUMNS, VECTORS>| {
                    let w: [__m512i; VECTORS] =
                        std::array::from_fn(|v| F::weights(weights.add(v * F::VECTOR_BYTES)));
                    weights = weights.add(VECTORS * F::VECTOR_BYTES);
                    for r in 0..ROWS {
                        each_column!(COLUMNS, |c| {
                            let taps = bases[r][c / 3].wrapping_add(c % 3 * step);
                            let x = _mm512_set1_epi32(taps.cast::<i32>().read_unaligned());
                            for (acc, &w) in acc[r][c].iter_mut().zip(&w) {
                                *acc = F::multiply(*acc, x, w);
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
            let parts = phase.as_flattened().as_flattened();
            let sums = total[0].as_flattened_mut().as_flattened_mut();
            for (sum, &part) in sums.iter_mut().zip(parts) {
                *sum = _mm512_add_epi32(*sum, part);
            }
        }
        total[0]
    }
}
