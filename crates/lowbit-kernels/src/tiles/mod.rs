//! What all direct convolutions over u8 activations share: how the result is cut into register tiles, how weights are
//! ordered for them, and the loops around a micro-kernel.
//!
//! There is no im2col buffer. In a channels-last view the taps of one kernel row (`kernel_w · in_channels` bytes) lie
//! side by side, so that each output pixel is a product of `kernel_h` *segments*, each padded with zero weights to a whole
//! number of *steps* (the taps that one instruction multiplies). Where pixels are wider than the channels read from them
//! (a group of a grouped convolution), each kernel position is a segment of its own.
//!
//! A *panel* is the weights of a few vectors of output channels in the order in which a tile reads them:
//! `[segment, step, vector, channel, tap]`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod panels;
mod run;
#[cfg(target_arch = "x86_64")]
mod store_avx2;
#[cfg(target_arch = "x86_64")]
mod store_avx512;
#[cfg(target_arch = "x86_64")]
mod winograd;

pub(crate) use panels::{PanelLayout, Panels, Segments, Slot};

use crate::u8i8::{Dequantize, Requantize};
use crate::{AlignedBuffer, ConvGeometry, Level, WeightShape};
use run::run;
use std::ops::Range;

/// Most i32 values that a tile leaves behind: 16 pixels of 32 channels.
const TILE_LEN: usize = 16 * 32;

/// Most channels of a panel.
pub(crate) const MAX_PANEL: usize = 32;

/// The sums of one tile, `[stored pixel, panel channel]`.
#[repr(C, align(64))]
pub(crate) struct TileSums(pub(crate) [i32; TILE_LEN]);

/// One number per channel of a panel, zero behind the last channel.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PerChannel<T>(pub(crate) [T; MAX_PANEL]);

impl<T: Copy + Default> PerChannel<T> {
    pub(crate) fn of(values: &[T], channels: Range<usize>) -> Self {
        let mut padded = [T::default(); MAX_PANEL];
        padded[..channels.len()].copy_from_slice(&values[channels]);
        Self(padded)
    }

    pub(crate) fn of_each(values: [&[T]; 2], channels: Range<usize>) -> [Self; 2] {
        values.map(|values| Self::of(values, channels.clone()))
    }
}

/// What a micro-kernel works on: a rectangle of output pixels times one panel.
pub(crate) struct TileCall {
    /// First tap of the first pixel.
    pub(crate) input: *const u8,
    /// Bytes from one pixel of the tile to the next.
    pub(crate) column_step: usize,
    /// Bytes from one row of the tile to the next.
    pub(crate) row_step: usize,
    /// Segments of the kernel.
    pub(crate) segments: Segments,
    /// Bytes from one kernel row to the next.
    pub(crate) segment_row_step: usize,
    /// Bytes from one segment of a kernel row to the next.
    pub(crate) segment_column_step: usize,
    /// Steps of a segment.
    pub(crate) steps: usize,
    /// The panel's weights.
    pub(crate) panel: *const u8,
    /// Where the accumulators start.
    pub(crate) start: PerChannel<i32>,
    /// Receives the sums.
    pub(crate) sums: *mut TileSums,
}

/// A micro-kernel for one tile shape.
///
/// # Safety
/// The kernel's instruction set is available; `input` is readable for every segment of every pixel of the tile rounded up
/// to whole steps; `panel` holds the panel; `sums`, aligned to a vector, is writable for each pixel and vector of the tile
/// before pooling.
pub(crate) type Microkernel = unsafe fn(&TileCall);

/// The micro-kernels of one ISA and weight format.
pub(crate) struct Family {
    /// The ISA of the micro-kernels.
    pub(crate) isa: Level,
    /// Bytes of an activation as the micro-kernels read it: 1, 2 where u8 are widened beforehand, or 4 for words of bits.
    pub(crate) element_bytes: usize,
    /// How their panels are laid out.
    pub(crate) layout: PanelLayout,
    /// Unpacks narrow weights ahead of time.
    pub(crate) unpack: Option<Unpack>,
    /// Lays the weights of a panel out for matrix tiles, where the format can.
    pub(crate) expand: Option<ExpandPanel>,
    /// `plain[vectors - 1][columns - 1]`: one row of pixels.
    pub(crate) plain: &'static [&'static [Microkernel]],
    /// `pooled[vectors - 1][columns - 1]`: two rows of `2 · columns` pixels, of which the maxima are left.
    pub(crate) pooled: &'static [&'static [Microkernel]],
}

/// How narrow weights become whole ones in a buffer of the thread, a panel at a time, before many pixels that use them.
#[derive(Clone, Copy)]
pub(crate) struct Unpack {
    /// The family that reads them; it differs from the packed one in nothing but the weights.
    pub(crate) family: &'static Family,
    /// Writes vectors in that family's order, `[step, vector]`.
    pub(crate) panel: UnpackPanel,
}

/// Unpacks the weights of `steps` steps of `vectors` vectors.
///
/// # Safety
/// The instruction set is available, `panel` holds as many, and `to`, aligned to 64 bytes, has room for them.
pub(crate) type UnpackPanel =
    unsafe fn(panel: *const u8, steps: usize, vectors: usize, to: *mut u8);

/// Lays the weights of a panel out for matrix tiles, `[segment, block, vector, step, channel, tap]`, steps that a segment
/// does not fill being zero.
///
/// # Safety
/// AVX-512 as the family needs it; `panel` holds the panel, `to`, aligned to 64 bytes, has room for its tiles.
pub(crate) type ExpandPanel = unsafe fn(panel: *const u8, shape: PanelShape, to: *mut u8);

/// What [`ExpandPanel`] needs to know of a panel.
#[derive(Clone, Copy)]
pub(crate) struct PanelShape {
    /// Segments of the kernel.
    pub(crate) segments: usize,
    /// Steps of a segment.
    pub(crate) steps: usize,
    /// Vectors of the panel.
    pub(crate) vectors: usize,
}

/// Turns sums into what is stored.
pub(crate) trait Store {
    /// What is stored.
    type Out;
    /// The constants of some channels.
    type Constants;

    /// Gathers the constants of `channels`.
    fn constants(&self, channels: Range<usize>) -> Self::Constants;

    /// Stores `pixels` pixels of `channels` channels, of which `sums` holds `width` each.
    ///
    /// # Safety
    /// The instruction set is available, `sums` holds `pixels · width` values, and `out` is writable for `channels`
    /// elements at each multiple of `pixel_stride` up to the last pixel.
    unsafe fn store(
        &self,
        constants: &Self::Constants,
        sums: &TileSums,
        tile: StoredTile,
        out: *mut Self::Out,
    );
}

/// The shape of a tile that is stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredTile {
    /// Stored pixels.
    pub(crate) pixels: usize,
    /// Channels to store.
    pub(crate) channels: usize,
    /// Channels in the sums.
    pub(crate) width: usize,
    /// Elements from one stored pixel to the next.
    pub(crate) pixel_stride: usize,
}

/// Cuts `len` into pieces of nearly equal length, none longer than `longest`.
fn pieces(len: usize, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let count = len.div_ceil(longest);
    (0..count).map(move |i| i * len / count..(i + 1) * len / count)
}

/// An input view.
#[derive(Clone, Copy)]
pub(crate) enum Activations<'a> {
    /// One byte each.
    Bytes(&'a [u8]),
    /// 32 signs each.
    Words(&'a [u32]),
}

impl<'a> Activations<'a> {
    fn len(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Words(words) => words.len(),
        }
    }

    /// What rows `rows` depend on, as the family reads it; `widened` is room for bytes of which it reads 16 bits each.
    fn of_rows<'b>(
        self,
        family: &Family,
        g: &ConvGeometry,
        rows: &Range<usize>,
        widened: &'b mut AlignedBuffer<i16>,
    ) -> &'b [u8]
    where
        'a: 'b,
    {
        let part = ConvGeometry {
            out_h: rows.len() * g.pool,
            ..*g
        };
        let first = rows.start * g.pool * g.stride * g.in_row_stride;
        let needed = first..first + part.input_extent() + READ_PAST;
        if rows.is_empty() || g.out_w == 0 {
            return &[];
        }
        match self {
            Self::Bytes(bytes) if family.element_bytes == 1 => &bytes[needed],
            Self::Bytes(bytes) => {
                widened.reserve(needed.len());
                for (wide, &byte) in widened.iter_mut().zip(&bytes[needed]) {
                    *wide = i16::from(byte);
                }
                widened.bytes()
            }
            Self::Words(words) => {
                let words = &words[needed];
                // SAFETY: the same memory; any byte is a valid u8.
                unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
            }
        }
    }
}

/// Convolves one image and stores u8; the portable twin of the caller's format does not come here.
pub(crate) fn conv_u8(
    panels: &Panels,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    check(
        &panels.shape(),
        geometry,
        &rows,
        input.len(),
        requantize.lengths(),
        out.len(),
    );
    match panels.family.isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` passed, and a family's `isa` is proof of its instruction set.
        Level::Avx512 => unsafe {
            let store = store_avx512::StoreU8(requantize);
            run(
                panels,
                geometry,
                rows,
                input,
                requantize.acc_offset,
                &store,
                out,
            );
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` passed, and a family's `isa` is proof of its instruction set.
        Level::Avx2 => unsafe {
            let store = store_avx2::StoreU8(requantize);
            run(
                panels,
                geometry,
                rows,
                input,
                requantize.acc_offset,
                &store,
                out,
            );
        },
        _ => unreachable!("the portable twin needs no panels"),
    }
}

/// Convolves one image and stores f32; otherwise as [`conv_u8`].
pub(crate) fn conv_f32(
    panels: &Panels,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    check(
        &panels.shape(),
        geometry,
        &rows,
        input.len(),
        dequantize.lengths(),
        out.len(),
    );
    match panels.family.isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` passed, and a family's `isa` is proof of its instruction set.
        Level::Avx512 => unsafe {
            let store = store_avx512::StoreF32(dequantize);
            run(
                panels,
                geometry,
                rows,
                input,
                dequantize.acc_offset,
                &store,
                out,
            );
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` passed, and a family's `isa` is proof of its instruction set.
        Level::Avx2 => unsafe {
            let store = store_avx2::StoreF32(dequantize);
            run(
                panels,
                geometry,
                rows,
                input,
                dequantize.acc_offset,
                &store,
                out,
            );
        },
        _ => unreachable!("the portable twin needs no panels"),
    }
}

/// Panics unless geometry, weights and slices fit together; what passes here is memory-safe to compute.
pub(crate) fn check(
    shape: &WeightShape,
    g: &ConvGeometry,
    rows: &Range<usize>,
    input_len: usize,
    per_channel: [usize; 3],
    out_len: usize,
) {
    let geometry_shape = WeightShape {
        out_channels: g.out_channels,
        kernel_h: g.kernel_h,
        kernel_w: g.kernel_w,
        in_channels: g.in_channels,
    };
    assert_eq!(*shape, geometry_shape, "the weights must fit the geometry");
    assert!(matches!(g.pool, 1 | 2), "pooling is by 1 or 2");
    assert!(g.stride > 0, "the stride must not be zero");
    assert!(
        rows.start <= rows.end && rows.end <= g.pooled_h(),
        "the rows must lie in the result"
    );
    assert!(
        per_channel == [g.out_channels; 3],
        "one offset, multiplier and bias per output channel"
    );
    let [kernel_h, kernel_w, stride] = [g.kernel_h, g.kernel_w, g.stride].map(bounded);
    let [out_h, out_w, rows] = [g.out_h, g.out_w, rows.len()].map(bounded);
    if out_h > 0 && out_w > 0 {
        let last_row = (out_h - 1) * stride + kernel_h.saturating_sub(1);
        let last_column = (out_w - 1) * stride + kernel_w.saturating_sub(1);
        let extent = last_row * bounded(g.in_row_stride)
            + last_column * bounded(g.in_pixel_stride)
            + bounded(g.in_channels);
        assert!(
            input_len as u128 >= extent + READ_PAST as u128,
            "the input must hold its extent and the slack"
        );
    }
    if rows > 0 && g.pooled_w() > 0 {
        let extent = (rows - 1) * bounded(g.out_row_stride)
            + bounded(g.pooled_w() - 1) * bounded(g.out_pixel_stride)
            + bounded(g.out_channels);
        assert!(out_len as u128 >= extent, "the output must hold its extent");
    }
}

/// Bytes that a whole number of steps may read past the last tap.
const READ_PAST: usize = 3;

/// A size in a width in which products of three such sizes cannot overflow.
fn bounded(size: usize) -> u128 {
    assert!(size < 1 << 40, "a size is absurd");
    size as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_length_in_nearly_equal_parts() {
        for len in 0..100 {
            for longest in 1..15 {
                let all: Vec<_> = pieces(len, longest).collect();
                let mut next = 0;
                for piece in &all {
                    assert_eq!(piece.start, next);
                    assert!(!piece.is_empty() && piece.len() <= longest);
                    next = piece.end;
                }
                assert_eq!(next, len);
                assert_eq!(all.len(), len.div_ceil(longest));
            }
        }
    }
}
