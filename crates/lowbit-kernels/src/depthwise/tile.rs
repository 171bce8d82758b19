//! f32: the one algorithm, for vectors of any width. A tile is a few neighboring pixels of a row times one vector of
//! channels; a tap's weights are loaded once for all of its pixels.

use super::{DepthwiseGeometry, Epilogue, FloatWeights};
use crate::conv_f32::tile::{Vector, load_lanes, store_lanes};
use crate::geometry::even_parts;
use std::arch::x86_64::{__m256, __m512};
use std::ops::Range;

/// Most pixels of a tile.
const MOST: usize = 6;

/// What all tiles of a call share.
struct Call<'a> {
    g: &'a DepthwiseGeometry,
    epilogue: &'a Epilogue<'a>,
    /// From one kernel row and column to the next, and from the taps of one pixel to those of its neighbor.
    row: usize,
    column: usize,
    step: usize,
}

/// # Safety
/// As [`conv`], and AVX2 and FMA are available.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn depthwise_f32_avx2(
    weights: &FloatWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    // SAFETY: the caller's promises.
    unsafe { conv::<__m256>(weights, g, rectangle, input, epilogue, out) }
}

/// # Safety
/// As [`conv`], and AVX-512 is available.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn depthwise_f32_avx512(
    weights: &FloatWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    // SAFETY: the caller's promises.
    unsafe { conv::<__m512>(weights, g, rectangle, input, epilogue, out) }
}

/// # Safety
/// The ISA of `V` must be available, its lanes those of the weights' blocks, and [`DepthwiseGeometry::check`] have passed for
/// the arguments; a bias must have every channel.
#[inline(always)]
unsafe fn conv<V: Vector>(
    weights: &FloatWeights,
    g: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let call = Call {
        g,
        epilogue,
        row: g.dilation[0] * g.in_row_stride,
        column: g.dilation[1] * g.in_pixel_stride,
        step: g.stride[1] * g.in_pixel_stride,
    };
    let (input, out) = (input.as_ptr(), out.as_mut_ptr());
    for row in rows.clone() {
        for part in even_parts(columns.len(), MOST) {
            let origin = g.origin(row, columns.start + part.start);
            let to = (row - rows.start) * g.out_row_stride + part.start * g.out_pixel_stride;
            for first in (0..g.channels).step_by(V::LANES) {
                let w = weights.block(first);
                // SAFETY: the pixels lie in the rectangle; a vector of channels reaches less than the slack beyond the last.
                unsafe {
                    let (x, y) = (input.add(origin + first), out.add(to + first));
                    match part.len() {
                        1 => tile_of::<V, 1>(&call, first, w, x, y),
                        2 => tile_of::<V, 2>(&call, first, w, x, y),
                        3 => tile_of::<V, 3>(&call, first, w, x, y),
                        4 => tile_of::<V, 4>(&call, first, w, x, y),
                        5 => tile_of::<V, 5>(&call, first, w, x, y),
                        _ => tile_of::<V, MOST>(&call, first, w, x, y),
                    }
                }
            }
        }
    }
}

/// The loop over the taps, unrolled for the common kernels.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn tile_of<V: Vector, const N: usize>(
    call: &Call<'_>,
    first: usize,
    w: *const f32,
    x: *const f32,
    y: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match call.g.kernel {
            [3, 3] => tile::<V, N>(call, [3, 3], first, w, x, y),
            kernel => tile::<V, N>(call, kernel, first, w, x, y),
        }
    }
}

/// # Safety
/// The ISA of `V` must be available; all taps of `N` pixels must be readable from `x` on and the weights' block from `w` on;
/// the pixels' channels from `first` on must be writable from `y` on.
#[inline(always)]
unsafe fn tile<V: Vector, const N: usize>(
    call: &Call<'_>,
    [kernel_h, kernel_w]: [usize; 2],
    first: usize,
    mut w: *const f32,
    x: *const f32,
    y: *mut f32,
) {
    // SAFETY: (whole body) the caller's promises.
    unsafe {
        let mut acc = [V::zero(); N];
        for row in 0..kernel_h {
            for column in 0..kernel_w {
                let tap = x.add(row * call.row + column * call.column);
                let weights = V::load(w);
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = acc.fma(V::load(tap.add(p * call.step)), weights);
                }
                w = w.add(V::LANES);
            }
        }
        let lanes = (call.g.channels - first).min(V::LANES);
        let bias = match call.epilogue.bias {
            Some(bias) => load_lanes(bias.as_ptr().add(first), lanes),
            None => V::zero(),
        };
        for (p, acc) in acc.into_iter().enumerate() {
            let mut result = acc.add(bias);
            if call.epilogue.relu {
                result = result.max(V::zero());
            }
            if let Some(ceiling) = call.epilogue.ceiling {
                result = result.min(V::splat(&raw const ceiling));
            }
            store_lanes(result, y.add(p * call.g.out_pixel_stride), lanes);
        }
    }
}
