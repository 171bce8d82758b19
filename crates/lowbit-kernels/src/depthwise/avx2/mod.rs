//! u8 with AVX2: eight channels at a time.

mod store;
mod sums;

use super::{
    ChannelConstants, DepthwiseGeometry, Dequantize, IntegerWeights, Requantize, rows_at_a_time,
};
use crate::geometry::even_parts;
use std::arch::x86_64::*;
use std::ops::Range;
use store::{Constants, Store};
use sums::{MOST, Tile, tiles};

use super::pack::BLOCK;

/// Bytes of the input that stay in the first-level cache.
const SMALL_INPUT: usize = 20 << 10;

/// # Safety
/// AVX2 and FMA are available, and [`DepthwiseGeometry::check`] and [`Requantize::check`] passed for the arguments.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_u8(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[u8],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    let store = store::Bytes::new(requantize, g.channels);
    // SAFETY: the caller's promises.
    unsafe {
        conv(
            weights,
            g,
            rectangle,
            input,
            (&store, requantize.into()),
            out.as_mut_ptr(),
        )
    }
}

/// # Safety
/// AVX2 and FMA are available, and [`DepthwiseGeometry::check`] and [`Dequantize::check`] passed for the arguments.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_f32(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[u8],
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    // SAFETY: the caller's promises.
    unsafe {
        conv(
            weights,
            g,
            rectangle,
            input,
            (dequantize, dequantize.into()),
            out.as_mut_ptr(),
        )
    }
}

/// A few rows at a time, so that what they see stays in the first-level cache for all of its channels.
///
/// # Safety
/// As [`conv_u8`]; `out` is writable for the rectangle.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn conv<S: Store>(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    input: &[u8],
    (store, constants): (&S, ChannelConstants<'_>),
    out: *mut S::Out,
) {
    let tiles = tiles(g.kernel, g.stride[1], g.dilation[1]);
    let mut sums = [_mm256_setzero_si256(); MOST];
    let mut tile = Tile {
        x: input.as_ptr(),
        row: g.dilation[0] * g.in_row_stride,
        column: g.dilation[1] * g.in_pixel_stride,
        step: g.stride[1] * g.in_pixel_stride,
        kernel: g.kernel,
        w: weights.block(0),
        start: sums[0],
        sums: sums.as_mut_ptr(),
    };
    for some in rows_at_a_time(g, rows.clone(), (SMALL_INPUT, 1)) {
        for first in (0..g.channels).step_by(BLOCK) {
            let lanes = (g.channels - first).min(BLOCK);
            // SAFETY: (whole body) the pixels lie in the rectangle; a block of channels reaches less than the slack beyond
            // the last one.
            unsafe {
                let constants = Constants::new(constants, first);
                tile.w = weights.block(first);
                tile.start = constants.start;
                for row in some.clone() {
                    // Of no columns there is no element.
                    let out = out.wrapping_add((row - rows.start) * g.out_row_stride + first);
                    for part in even_parts(columns.len(), MOST) {
                        let origin = g.origin(row, columns.start + part.start);
                        tile.x = input.as_ptr().add(origin + first);
                        tiles[part.len() - 1](&tile);
                        let to = out.add(part.start * g.out_pixel_stride);
                        let sums = std::slice::from_raw_parts(tile.sums, part.len());
                        store.store(&constants, sums, lanes, to, g.out_pixel_stride);
                    }
                }
            }
        }
    }
}
