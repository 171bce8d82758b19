//! Register tiles of AVX2: each step takes four bytes of activations per pixel and vectors of eight output channels.

use super::{Family, Microkernel, PanelLayout, TileCall, Unpack};
use crate::Level;
use std::arch::asm;
use std::arch::x86_64::*;

/// A weight format: how a vector of weights is read, multiplied and what the sums mean.
///
/// # Safety
/// Its functions need AVX2. They are inlined into functions compiled for it, and `weights` reads `BLOCK_BYTES` bytes at
/// its pointer, nothing else.
pub(crate) unsafe trait Format {
    /// Taps of a step: four bytes of activations.
    const STEP_TAPS: usize;
    /// Bytes of an activation.
    const ELEMENT_BYTES: usize;
    /// Steps whose weights share a vector.
    const BLOCK_STEPS: usize;
    /// Whether accumulators begin at the channels' start values; else `finish` adds them.
    const START_FIRST: bool;

    /// Weights of eight channels, for step `step` of the block at `block`.
    unsafe fn weights(block: *const u8, step: usize) -> __m256i;
    /// What comes out of `weights`, as the whole numbers that they are.
    #[inline(always)]
    unsafe fn whole(weights: __m256i) -> __m256i {
        weights
    }
    /// `acc` and the products of activations `x` with `weights`.
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i;
    /// The sums, of an accumulator and the channels' start values.
    #[inline(always)]
    unsafe fn finish(acc: __m256i, _start: __m256i) -> __m256i {
        acc
    }
}

/// Bytes of a vector of weights.
const BLOCK_BYTES: usize = 32;

/// `acc` and the products of four bytes with four signed bytes (AVX-VNNI).
///
/// # Safety
/// AVX-VNNI is available.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn dpbusd(mut acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
    // SAFETY: registers only. The intrinsic would not be inlined into tiles compiled for AVX2 alone.
    unsafe {
        asm!("{{vex}} vpdpbusd {0}, {1}, {2}", inout(ymm_reg) acc, in(ymm_reg) x, in(ymm_reg) weights,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

struct Table<F>(std::marker::PhantomData<F>);

macro_rules! tiles {
    ($kernel:ident $vectors:literal: $($columns:literal)*) => {
        [$($kernel::<F, $columns, $vectors>),*]
    };
}

// The accumulators' chain is one addition (1 cycle), so that few of them suffice; 12 leave room for the operands.
impl<F: Format> Table<F> {
    const PLAIN_1: [Microkernel; 6] = tiles!(plain 1: 1 2 3 4 5 6);
    const PLAIN_2: [Microkernel; 6] = tiles!(plain 2: 1 2 3 4 5 6);
    const POOLED_1: [Microkernel; 3] = tiles!(pooled 1: 2 4 6);
    const POOLED_2: [Microkernel; 3] = tiles!(pooled 2: 2 4 6);
}

/// The micro-kernels of a format of whole weights: panels of two vectors of eight channels.
pub(crate) const fn family<F: Format>() -> Family {
    family_with::<F>(None)
}

/// The same of a format of narrow weights, which `whole` can read once they are unpacked.
pub(crate) const fn packed_family<F: Format>(whole: &'static Family) -> Family {
    family_with::<F>(Some(Unpack {
        family: whole,
        panel: unpack_panel::<F>,
    }))
}

const fn family_with<F: Format>(unpack: Option<Unpack>) -> Family {
    Family {
        isa: Level::Avx2,
        unpack,
        expand: None,
        element_bytes: F::ELEMENT_BYTES,
        layout: PanelLayout {
            lanes: 8,
            vectors: 2,
            step_taps: F::STEP_TAPS,
            block_steps: F::BLOCK_STEPS,
            block_bytes: BLOCK_BYTES,
        },
        plain: &[&Table::<F>::PLAIN_1, &Table::<F>::PLAIN_2],
        pooled: &[&Table::<F>::POOLED_1, &Table::<F>::POOLED_2],
    }
}

/// # Safety
/// As [`UnpackPanel`](super::UnpackPanel).
#[target_feature(enable = "avx2")]
unsafe fn unpack_panel<F: Format>(panel: *const u8, steps: usize, vectors: usize, to: *mut u8) {
    for step in 0..steps {
        for v in 0..vectors {
            // SAFETY: the caller's promises.
            unsafe {
                let block = step / F::BLOCK_STEPS * vectors + v;
                let codes = panel.add(block * BLOCK_BYTES);
                let weights = F::whole(F::weights(codes, step % F::BLOCK_STEPS));
                _mm256_store_si256(to.add((step * vectors + v) * BLOCK_BYTES).cast(), weights);
            }
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

/// The sums of `COLUMNS` pixels and `VECTORS` vectors of channels.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx2")]
unsafe fn plain<F: Format, const COLUMNS: usize, const VECTORS: usize>(call: &TileCall) {
    // SAFETY: the caller's promises.
    unsafe { products::<F, COLUMNS, VECTORS>(call, call.input, call.sums.cast()) }
}

/// The 2×2 maxima of two rows of `COLUMNS` pixels: twelve accumulators are one row's, so the rows go one after the other.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx2")]
unsafe fn pooled<F: Format, const COLUMNS: usize, const VECTORS: usize>(call: &TileCall) {
    // SAFETY: as in `plain`, for two rows; the second row belongs to the tile. Pixels are written in the place of those
    // that were read for them, or before.
    unsafe {
        let sums = call.sums.cast::<__m256i>();
        let bottom = sums.add(COLUMNS * VECTORS);
        products::<F, COLUMNS, VECTORS>(call, call.input, sums);
        products::<F, COLUMNS, VECTORS>(call, call.input.add(call.row_step), bottom);
        for pixel in 0..COLUMNS / 2 {
            for v in 0..VECTORS {
                let of = |row: *mut __m256i, column: usize| {
                    _mm256_load_si256(row.add((2 * pixel + column) * VECTORS + v))
                };
                let top = _mm256_max_epi32(of(sums, 0), of(sums, 1));
                let bottom = _mm256_max_epi32(of(bottom, 0), of(bottom, 1));
                _mm256_store_si256(sums.add(pixel * VECTORS + v), _mm256_max_epi32(top, bottom));
            }
        }
    }
}

/// The sums of `COLUMNS` pixels from `input` on, `[pixel, vector]`.
///
/// # Safety
/// As [`Microkernel`], and `sums` is writable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn products<F: Format, const COLUMNS: usize, const VECTORS: usize>(
    call: &TileCall,
    input: *const u8,
    sums: *mut __m256i,
) {
    // SAFETY: (whole body) the caller promises that every segment of every pixel of the tile and the whole panel can be
    // read; `start` holds MAX_PANEL numbers, at least VECTORS · 8.
    unsafe {
        let step = call.column_step;
        let start: [__m256i; VECTORS] =
            std::array::from_fn(|v| _mm256_load_si256(call.start.0.as_ptr().add(v * 8).cast()));
        let mut weights_step = 0;
        let mut acc = if F::START_FIRST {
            [start; COLUMNS]
        } else {
            [[_mm256_setzero_si256(); VECTORS]; COLUMNS]
        };
        for kernel_row in 0..call.segments.rows {
            for kernel_column in 0..call.segments.columns {
                let near = input.add(
                    kernel_row * call.segment_row_step + kernel_column * call.segment_column_step,
                );
                // `base`, `base + step`, `base + 2 · step` are x86 addresses: two bases for six pixels.
                let far = near.wrapping_add(opaque(3 * step));
                let mut bases = [near, far];
                let mut multiply = |bases: [*const u8; 2], offset: usize| {
                    let (block, within) =
                        (weights_step / F::BLOCK_STEPS, weights_step % F::BLOCK_STEPS);
                    let blocks = call.panel.add(block * VECTORS * BLOCK_BYTES);
                    let w: [__m256i; VECTORS] =
                        std::array::from_fn(|v| F::weights(blocks.add(v * BLOCK_BYTES), within));
                    weights_step += 1;
                    for (c, pixel) in acc.iter_mut().enumerate() {
                        let taps = bases[c / 3].wrapping_add(c % 3 * step + offset);
                        let x = _mm256_set1_epi32(taps.cast::<i32>().read_unaligned());
                        for (sum, &w) in pixel.iter_mut().zip(&w) {
                            *sum = F::multiply(*sum, x, w);
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
        for (c, pixel) in acc.iter().enumerate() {
            for (v, (&sum, &start)) in pixel.iter().zip(&start).enumerate() {
                _mm256_store_si256(sums.add(c * VECTORS + v), F::finish(sum, start));
            }
        }
    }
}
