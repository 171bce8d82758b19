//! Register tiles of AVX-512: each step takes four bytes of activations per pixel and vectors of sixteen output channels.

use super::expand::expand_panel;
use super::format::{Format, bytes};
use crate::qconv::layout::PanelLayout;
use crate::qconv::microkernel::{
    KernelData, KernelSet, Microkernel, MicrokernelArgs, UnpackPanel, opaque,
};
use std::arch::x86_64::*;

/// The kernels of a format for tiles of one or two vectors of sixteen channels, by their names.
pub(in crate::qconv) struct Tiles {
    /// One row of 1 to 14 pixels.
    pub(in crate::qconv) plain: &'static [&'static [Microkernel]],
    /// Two rows of 2, 4 or 6 pixels.
    pub(in crate::qconv) pooled: &'static [&'static [Microkernel]],
}

/// The micro-kernels of a format: panels of two vectors of sixteen channels. Narrow weights can also be unpacked for the set
/// that reads them as `bytes`.
///
/// # Safety
/// `tiles` are the kernels of `F`.
pub(in crate::qconv) const unsafe fn kernel_set<F: Format>(
    tiles: Tiles,
    bytes: Option<&'static KernelSet<F::Proof>>,
) -> KernelSet<F::Proof> {
    let data = KernelData {
        unpack: None,
        expand: match F::BYTES_SHIFTED_BY {
            Some(_) => Some(expand_panel::<F>),
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
        plain: tiles.plain,
        pooled: tiles.pooled,
    };
    let unpack: Option<(_, UnpackPanel)> = match bytes {
        Some(bytes) => Some((bytes, unpack_panel::<F>)),
        None => None,
    };
    // SAFETY: the kernels are compiled for what `Avx512` proves, which `Proof` includes, and call the format, which by its
    // contract needs no more than `Proof`.
    unsafe { KernelSet::new(data, unpack) }
}

/// Defines `KERNELS`, the kernels of a format, as functions of their own: with the module's, their names say weights, pixels ×
/// channels of the tile and ISA, so that a profile can be read. Where a tile has fewer accumulators than the instruction's
/// latency needs, the steps alternate between several sets of them, the third number.
macro_rules! kernels_avx512 {
    ($format:ty, $bytes:expr) => {
        $crate::qconv::avx512::tile::define_kernels! {
            $format, $bytes,
            plain: [
                [
                    qconv_1x16_avx512 = 1 x 1 x 4, qconv_2x16_avx512 = 2 x 1 x 4,
                    qconv_3x16_avx512 = 3 x 1 x 4, qconv_4x16_avx512 = 4 x 1 x 2,
                    qconv_5x16_avx512 = 5 x 1 x 2, qconv_6x16_avx512 = 6 x 1 x 2,
                    qconv_7x16_avx512 = 7 x 1 x 1, qconv_8x16_avx512 = 8 x 1 x 1,
                    qconv_9x16_avx512 = 9 x 1 x 1, qconv_10x16_avx512 = 10 x 1 x 1,
                    qconv_11x16_avx512 = 11 x 1 x 1, qconv_12x16_avx512 = 12 x 1 x 1,
                    qconv_13x16_avx512 = 13 x 1 x 1, qconv_14x16_avx512 = 14 x 1 x 1
                ],
                [
                    qconv_1x32_avx512 = 1 x 2 x 4, qconv_2x32_avx512 = 2 x 2 x 2,
                    qconv_3x32_avx512 = 3 x 2 x 2, qconv_4x32_avx512 = 4 x 2 x 1,
                    qconv_5x32_avx512 = 5 x 2 x 1, qconv_6x32_avx512 = 6 x 2 x 1,
                    qconv_7x32_avx512 = 7 x 2 x 1, qconv_8x32_avx512 = 8 x 2 x 1,
                    qconv_9x32_avx512 = 9 x 2 x 1, qconv_10x32_avx512 = 10 x 2 x 1,
                    qconv_11x32_avx512 = 11 x 2 x 1, qconv_12x32_avx512 = 12 x 2 x 1,
                    qconv_13x32_avx512 = 13 x 2 x 1, qconv_14x32_avx512 = 14 x 2 x 1
                ]
            ],
            pooled: [
                [
                    qconv_pooled_2x2x16_avx512 = 2 x 1 x 2, qconv_pooled_2x4x16_avx512 = 4 x 1 x 1,
                    qconv_pooled_2x6x16_avx512 = 6 x 1 x 1
                ],
                [
                    qconv_pooled_2x2x32_avx512 = 2 x 2 x 1, qconv_pooled_2x4x32_avx512 = 4 x 2 x 1,
                    qconv_pooled_2x6x32_avx512 = 6 x 2 x 1
                ]
            ]
        }
    };
}
pub(in crate::qconv) use kernels_avx512;

macro_rules! define_kernels {
    ($format:ty, $bytes:expr,
     plain: [$([$($plain:ident = $columns:literal x $vectors:literal x $phases:literal),*]),*],
     pooled: [$([$($pooled:ident = $pooled_columns:literal x $pooled_vectors:literal x $pooled_phases:literal),*]),*]) => {
        $($($crate::qconv::avx512::tile::kernel!($plain, $format, 1, $columns, $vectors, $phases);)*)*
        $($($crate::qconv::avx512::tile::kernel!($pooled, $format, 2, $pooled_columns, $pooled_vectors, $pooled_phases);)*)*

        /// The kernels of the format.
        pub(in crate::qconv) static KERNELS: crate::qconv::microkernel::KernelSet<
            <$format as crate::qconv::avx512::format::Format>::Proof,
        > = // SAFETY: the functions above are the kernels of the format.
        unsafe { crate::qconv::avx512::tile::kernel_set::<$format>(
            crate::qconv::avx512::tile::Tiles {
                plain: &[$(&[$($plain),*]),*],
                pooled: &[$(&[$($pooled),*]),*],
            },
            $bytes,
        ) };
    };
}
pub(in crate::qconv) use define_kernels;

/// The sums of `$rows` × `$columns` pixels and `$vectors` vectors of channels; with two rows, their 2×2 maxima. This is a macro
/// and not one more function around [`products`] because of what the compiler makes of it: what is inlined twice is unrolled
/// twice.
macro_rules! kernel {
    ($name:ident, $format:ty, $rows:literal, $columns:literal, $vectors:literal, $phases:literal) => {
        /// # Safety
        /// As [`Microkernel`](crate::qconv::microkernel::Microkernel).
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn $name(args: &crate::qconv::microkernel::MicrokernelArgs) {
            use crate::qconv::avx512::format::Format;
            use crate::qconv::avx512::tile::products;
            use std::arch::x86_64::*;
            const ROWS: usize = $rows;
            const COLUMNS: usize = $columns;
            const VECTORS: usize = $vectors;
            // SAFETY: (whole body) the caller promises that `sums` can be written, which holds TILE_LEN numbers: at least
            // COLUMNS · VECTORS · 16 for every tile shape named above; `start` holds MAX_PANEL, at least VECTORS · 16.
            unsafe {
                let start: [__m512i; VECTORS] = std::array::from_fn(|v| {
                    _mm512_load_si512(args.start.0.as_ptr().add(v * 16).cast())
                });
                let mut acc = products::<$format, ROWS, COLUMNS, VECTORS, $phases>(args, &start);
                for pixel in acc.as_flattened_mut() {
                    for (sum, &start) in pixel.iter_mut().zip(&start) {
                        *sum = <$format>::finish(*sum, start);
                    }
                }
                let mut sums = args.sums.cast::<__m512i>();
                for c in (0..COLUMNS).step_by(ROWS) {
                    for (v, &first) in acc[0][c].iter().enumerate() {
                        let mut sum = first;
                        if ROWS == 2 {
                            let below = &acc[ROWS - 1];
                            let right = _mm512_max_epi32(acc[0][c + 1][v], below[c + 1][v]);
                            sum = _mm512_max_epi32(_mm512_max_epi32(sum, below[c][v]), right);
                        }
                        _mm512_store_si512(sums, sum);
                        sums = sums.add(1);
                    }
                }
            }
        }
    };
}
pub(in crate::qconv) use kernel;

/// # Safety
/// As [`UnpackPanel`].
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

/// The accumulators of a tile.
///
/// # Safety
/// As [`Microkernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(in crate::qconv) unsafe fn products<
    F: Format,
    const ROWS: usize,
    const COLUMNS: usize,
    const VECTORS: usize,
    const PHASES: usize,
>(
    args: &MicrokernelArgs,
    start: &[__m512i; VECTORS],
) -> Acc<ROWS, COLUMNS, VECTORS> {
    // SAFETY: (whole body) the caller promises that every segment of every pixel of the tile and the whole panel can be
    // read.
    unsafe {
        let step = args.column_step;
        let mut acc = [[[[_mm512_setzero_si512(); VECTORS]; COLUMNS]; ROWS]; PHASES];
        if F::START_FIRST {
            acc[0] = [[*start; COLUMNS]; ROWS];
        }
        for kernel_row in 0..args.segments.rows {
            let vectors = (args.first_step + kernel_row * args.row_steps) * VECTORS;
            let mut weights = args.panel.add(vectors * F::VECTOR_BYTES);
            for kernel_column in 0..args.segments.columns {
                let first = args.input.add(
                    kernel_row * args.segment_row_step + kernel_column * args.segment_column_step,
                );
                // One base for each three pixels: `base`, `base + step`, `base + 2 · step` are x86 addresses.
                let mut bases = [[first; 5]; ROWS];
                for (r, row) in bases.iter_mut().enumerate() {
                    for (third, base) in row.iter_mut().enumerate().take(COLUMNS.div_ceil(3)) {
                        *base = first.wrapping_add(opaque(r * args.row_step + 3 * third * step));
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
                for _ in 0..args.steps / PHASES {
                    for phase in &mut acc {
                        multiply(phase);
                    }
                }
                for _ in 0..args.steps % PHASES {
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
