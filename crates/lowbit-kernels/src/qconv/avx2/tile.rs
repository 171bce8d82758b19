//! Register tiles of AVX2: each step takes four bytes of activations per pixel and vectors of eight output channels.

use crate::proof::Avx2;
use crate::qconv::layout::PanelLayout;
use crate::qconv::microkernel::{
    KernelData, KernelSet, Microkernel, MicrokernelArgs, UnpackPanel, opaque,
};
use std::arch::x86_64::*;

/// A weight format: how a vector of weights is read, multiplied and what the sums mean.
///
/// # Safety
/// Its functions need what `Proof` proves, no more. They are inlined into functions compiled for AVX2, and
/// `weights` reads `BLOCK_BYTES` bytes at its pointer, nothing else.
pub(in crate::qconv) unsafe trait Format {
    /// The proof of what its functions need.
    type Proof: Into<Avx2> + 'static;
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

/// The kernels of a format for tiles of one or two vectors of eight channels, by their names.
pub(in crate::qconv) struct Tiles {
    /// One row of 1 to 6 pixels.
    pub(in crate::qconv) plain: &'static [&'static [Microkernel]],
    /// Two rows of 2, 4 or 6 pixels.
    pub(in crate::qconv) pooled: &'static [&'static [Microkernel]],
}

/// The micro-kernels of a format: panels of two vectors of eight channels. Narrow weights can also be unpacked for the set
/// that reads them `whole`.
///
/// # Safety
/// `tiles` are the kernels of `F`.
pub(in crate::qconv) const unsafe fn kernel_set<F: Format>(
    tiles: Tiles,
    whole: Option<&'static KernelSet<F::Proof>>,
) -> KernelSet<F::Proof> {
    let data = KernelData {
        unpack: None,
        expand: None,
        element_bytes: F::ELEMENT_BYTES,
        layout: PanelLayout {
            lanes: 8,
            vectors: 2,
            step_taps: F::STEP_TAPS,
            block_steps: F::BLOCK_STEPS,
            block_bytes: BLOCK_BYTES,
        },
        plain: tiles.plain,
        pooled: tiles.pooled,
    };
    let unpack: Option<(_, UnpackPanel)> = match whole {
        Some(whole) => Some((whole, unpack_panel::<F>)),
        None => None,
    };
    // SAFETY: the kernels are compiled for AVX2, which `Proof` includes, and call the format, which by its contract needs no
    // more than `Proof`.
    unsafe { KernelSet::new(data, unpack) }
}

/// Defines `KERNELS`, the kernels of a format, as functions of their own: with the module's, their names say weights, pixels ×
/// channels of the tile and ISA, so that a profile can be read. The accumulators' chain is one addition (1 cycle), so that few
/// of them suffice; 12 leave room for the operands.
macro_rules! define_kernels {
    ($format:ty, $whole:expr,
     plain: [$([$($plain:ident = $columns:literal x $vectors:literal),*]),*],
     pooled: [$([$($pooled:ident = $pooled_columns:literal x $pooled_vectors:literal),*]),*]) => {
        $($(
            /// # Safety
            /// As [`Microkernel`](crate::qconv::microkernel::Microkernel).
            #[target_feature(enable = "avx2")]
            unsafe fn $plain(args: &crate::qconv::microkernel::MicrokernelArgs) {
                // SAFETY: the caller's promises.
                unsafe { crate::qconv::avx2::tile::plain::<$format, $columns, $vectors>(args) }
            }
        )*)*
        $($(
            /// # Safety
            /// As [`Microkernel`](crate::qconv::microkernel::Microkernel).
            #[target_feature(enable = "avx2")]
            unsafe fn $pooled(args: &crate::qconv::microkernel::MicrokernelArgs) {
                // SAFETY: the caller's promises.
                unsafe { crate::qconv::avx2::tile::pooled::<$format, $pooled_columns, $pooled_vectors>(args) }
            }
        )*)*

        /// The kernels of the format.
        pub(in crate::qconv) static KERNELS: crate::qconv::microkernel::KernelSet<
            <$format as crate::qconv::avx2::tile::Format>::Proof,
        > = // SAFETY: the functions above are the kernels of the format.
        unsafe { crate::qconv::avx2::tile::kernel_set::<$format>(
            crate::qconv::avx2::tile::Tiles {
                plain: &[$(&[$($plain),*]),*],
                pooled: &[$(&[$($pooled),*]),*],
            },
            $whole,
        ) };
    };
}
pub(in crate::qconv) use define_kernels;

/// [`define_kernels!`] with the names of AVX2.
macro_rules! kernels_avx2 {
    ($format:ty, $whole:expr) => {
        $crate::qconv::avx2::tile::define_kernels! {
            $format, $whole,
            plain: [
                [
                    qconv_1x8_avx2 = 1 x 1, qconv_2x8_avx2 = 2 x 1, qconv_3x8_avx2 = 3 x 1,
                    qconv_4x8_avx2 = 4 x 1, qconv_5x8_avx2 = 5 x 1, qconv_6x8_avx2 = 6 x 1
                ],
                [
                    qconv_1x16_avx2 = 1 x 2, qconv_2x16_avx2 = 2 x 2, qconv_3x16_avx2 = 3 x 2,
                    qconv_4x16_avx2 = 4 x 2, qconv_5x16_avx2 = 5 x 2, qconv_6x16_avx2 = 6 x 2
                ]
            ],
            pooled: [
                [
                    qconv_pooled_2x2x8_avx2 = 2 x 1, qconv_pooled_2x4x8_avx2 = 4 x 1,
                    qconv_pooled_2x6x8_avx2 = 6 x 1
                ],
                [
                    qconv_pooled_2x2x16_avx2 = 2 x 2, qconv_pooled_2x4x16_avx2 = 4 x 2,
                    qconv_pooled_2x6x16_avx2 = 6 x 2
                ]
            ]
        }
    };
}
pub(in crate::qconv) use kernels_avx2;

/// # Safety
/// As [`UnpackPanel`].
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

/// The sums of `COLUMNS` pixels and `VECTORS` vectors of channels.
///
/// # Safety
/// As [`Microkernel`].
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::qconv) unsafe fn plain<F: Format, const COLUMNS: usize, const VECTORS: usize>(
    args: &MicrokernelArgs,
) {
    // SAFETY: the caller's promises.
    unsafe { products::<F, COLUMNS, VECTORS>(args, args.input, args.sums.cast()) }
}

/// The 2×2 maxima of two rows of `COLUMNS` pixels: twelve accumulators are one row's, so the rows go one after the other.
///
/// # Safety
/// As [`Microkernel`].
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::qconv) unsafe fn pooled<F: Format, const COLUMNS: usize, const VECTORS: usize>(
    args: &MicrokernelArgs,
) {
    // SAFETY: as in `plain`, for two rows; the second row belongs to the tile. Pixels are written in the place of those
    // that were read for them, or before.
    unsafe {
        let sums = args.sums.cast::<__m256i>();
        let bottom = sums.add(COLUMNS * VECTORS);
        products::<F, COLUMNS, VECTORS>(args, args.input, sums);
        products::<F, COLUMNS, VECTORS>(args, args.input.add(args.row_step), bottom);
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
    args: &MicrokernelArgs,
    input: *const u8,
    sums: *mut __m256i,
) {
    // SAFETY: (whole body) the caller promises that every segment of every pixel of the tile and the whole panel can be
    // read; `start` holds MAX_PANEL numbers, at least VECTORS · 8.
    unsafe {
        let step = args.column_step;
        let start: [__m256i; VECTORS] =
            std::array::from_fn(|v| _mm256_load_si256(args.start.0.as_ptr().add(v * 8).cast()));
        let mut acc = if F::START_FIRST {
            [start; COLUMNS]
        } else {
            [[_mm256_setzero_si256(); VECTORS]; COLUMNS]
        };
        for kernel_row in 0..args.segments.rows {
            let mut weights_step = args.first_step + kernel_row * args.row_steps;
            for kernel_column in 0..args.segments.columns {
                let near = input.add(
                    kernel_row * args.segment_row_step + kernel_column * args.segment_column_step,
                );
                // `base`, `base + step`, `base + 2 · step` are x86 addresses: two bases for six pixels.
                let far = near.wrapping_add(opaque(3 * step));
                let mut bases = [near, far];
                let mut multiply = |bases: [*const u8; 2], offset: usize| {
                    let (block, within) =
                        (weights_step / F::BLOCK_STEPS, weights_step % F::BLOCK_STEPS);
                    let blocks = args.panel.add(block * VECTORS * BLOCK_BYTES);
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
                for _ in 0..args.steps / 2 {
                    multiply(bases, 0);
                    multiply(bases, 4);
                    bases = bases.map(|base| base.wrapping_add(8));
                }
                if args.steps % 2 == 1 {
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
