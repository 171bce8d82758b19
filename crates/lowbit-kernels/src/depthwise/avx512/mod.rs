//! u8 with AVX-512 and VNNI: 16, 32 or 64 channels at a time, of filters whose weights are bytes.

mod store;
mod sums;
mod vector;

use super::quads::{Quads, block_len};
use super::{ChannelConstants, DepthwiseGeometry, Dequantize, Requantize, rows_at_a_time};
use crate::geometry::even_parts;
use crate::proof::Avx512;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;
use store::{Constants, Place, Store};
use sums::{MOST, Rows, Tile, interleave, tiles};
use vector::ByteVector;

/// Bytes of the input that stay in the second-level cache. Of each pixel a block reads lines of its own.
const NEAR_INPUT: usize = 256 << 10;

/// Bytes of interleaved columns: half of the smallest first-level cache.
const COLUMN_BYTES: usize = 16 << 10;

/// A depthwise convolution's filters and geometry, where this kernel takes them.
#[derive(Clone, Copy)]
pub(super) struct Conv<'a> {
    quads: &'a Quads,
    g: &'a DepthwiseGeometry,
    /// Output rows that are computed at once.
    rows: usize,
    _avx512: Avx512,
}

impl<'a> Conv<'a> {
    /// None where the columns that one pixel sees are too many.
    pub(super) fn new(proof: Avx512, quads: &'a Quads, g: &'a DepthwiseGeometry) -> Option<Self> {
        let fits = columns_at_once(quads, g, store::BLOCK) > 0;
        let rows = match g.dilation[0] == 1 && quads.reaches(g.stride[0]) {
            true => 2,
            false => 1,
        };
        fits.then_some(Self {
            quads,
            g,
            rows,
            _avx512: proof,
        })
    }

    /// # Safety
    /// [`DepthwiseGeometry::check`] and [`Requantize::check`] passed for the arguments.
    pub(super) unsafe fn to_u8(
        self,
        rectangle: [Range<usize>; 2],
        input: &[u8],
        requantize: &Requantize<'_>,
        out: &mut [u8],
    ) {
        let store = store::Bytes::new(requantize, self.g.channels);
        // SAFETY: the caller's promises; this value holds the proof.
        unsafe {
            conv(
                self,
                rectangle,
                input,
                (&store, requantize.into()),
                out.as_mut_ptr(),
            )
        }
    }

    /// # Safety
    /// [`DepthwiseGeometry::check`] and [`Dequantize::check`] passed for the arguments.
    pub(super) unsafe fn to_f32(
        self,
        rectangle: [Range<usize>; 2],
        input: &[u8],
        dequantize: &Dequantize<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: as above.
        unsafe {
            conv(
                self,
                rectangle,
                input,
                (dequantize, dequantize.into()),
                out.as_mut_ptr(),
            )
        }
    }
}

/// Output pixels of a row whose columns are interleaved at once.
fn columns_at_once(quads: &Quads, g: &DepthwiseGeometry, block: usize) -> usize {
    let columns = COLUMN_BYTES / (quads.quads() * 4 * block).max(1);
    let seen = (g.kernel[1] - 1).saturating_mul(g.dilation[1]);
    let left = columns.saturating_sub(seen);
    left.div_ceil(g.stride[1].max(1))
}

/// Interleaved columns.
#[repr(align(64))]
struct Columns([MaybeUninit<u8>; COLUMN_BYTES]);

/// # Safety
/// As [`Conv::to_u8`], with AVX-512; `out` is writable for the rectangle.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn conv<S: Store>(
    conv: Conv<'_>,
    [rows, columns]: [Range<usize>; 2],
    input: &[u8],
    store: (&S, ChannelConstants<'_>),
    out: *mut S::Out,
) {
    for some in rows_at_a_time(conv.g, rows.clone(), (NEAR_INPUT, conv.rows)) {
        for first in (0..conv.g.channels).step_by(store::BLOCK) {
            let out = out.wrapping_add((some.start - rows.start) * conv.g.out_row_stride + first);
            let part = [some.clone(), columns.clone()];
            // SAFETY: the caller's promises; a block of channels reaches less than the slack beyond the last one.
            unsafe {
                match block_len(conv.g.channels - first) {
                    16 => block::<__m128i, S>(conv, first, part, input, store, out),
                    32 => block::<__m256i, S>(conv, first, part, input, store, out),
                    _ => block::<__m512i, S>(conv, first, part, input, store, out),
                }
            }
        }
    }
}

/// The rows and columns of one block of channels.
///
/// # Safety
/// As [`conv`], of which `out` is the place of the block's first result.
#[inline(always)]
unsafe fn block<V: ByteVector, S: Store>(
    Conv { quads, g, rows, .. }: Conv<'_>,
    first: usize,
    [some, columns]: [Range<usize>; 2],
    input: &[u8],
    store: (&S, ChannelConstants<'_>),
    out: *mut S::Out,
) {
    let (store, constants) = store;
    let mut interleaved = Columns([MaybeUninit::uninit(); COLUMN_BYTES]);
    let to = interleaved.0.as_mut_ptr().cast::<u8>();
    let column = quads.quads() * 4 * V::CHANNELS;
    let mut tile = Tile {
        x: to,
        column: g.dilation[1] * column,
        step: g.stride[1] * column,
        columns: g.kernel[1],
        quads: quads.quads(),
        w: [quads.block(first, 0); 2],
    };
    if rows == 2 {
        tile.w[1] = quads.block(first, g.stride[0]);
    }
    let lanes = (g.channels - first).min(V::CHANNELS);
    let at_once = columns_at_once(quads, g, V::CHANNELS);
    // SAFETY: (whole body) the pixels lie in the rectangle; all columns that a part sees fit into those that are interleaved.
    unsafe {
        let constants = Constants::<V>::new(constants, first);
        let mut sums = [[V::zero(); 4]; 6];
        for row in some.clone().step_by(rows) {
            let height = rows.min(some.end - row);
            let tiles = tiles::<V>(height);
            for part in even_parts(columns.len(), at_once) {
                let origin = g.origin(row, columns.start + part.start);
                let seen = (part.len() - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
                let from = Rows {
                    x: input.as_ptr().add(origin + first),
                    row: g.dilation[0] * g.in_row_stride,
                    column: g.in_pixel_stride,
                    count: (height - 1) * g.stride[0] + g.kernel[0],
                };
                interleave::<V>(from, seen, quads.quads(), to);
                for few in even_parts(part.len(), MOST[height - 1]) {
                    tile.x = to.add(few.start * tile.step);
                    tiles[few.len() - 1](&tile, &constants.start, sums.as_mut_ptr().cast());
                    for (below, sums) in sums.chunks_exact(few.len()).take(height).enumerate() {
                        let down = (row - some.start + below) * g.out_row_stride;
                        let right = (part.start + few.start) * g.out_pixel_stride;
                        let place = Place {
                            to: out.wrapping_add(down + right),
                            stride: g.out_pixel_stride,
                            lanes,
                        };
                        store.store(&constants, sums, place);
                    }
                }
            }
        }
    }
}
