//! f32: the one algorithm, for vectors of any width. A tile is a few neighboring pixels of a row, or of two, times one vector
//! of channels. Of the 3×3 kernels each input is loaded once for all pixels and taps that see it; of others, a tap's weights
//! are loaded once for all of its pixels. Products are added in the order of the taps, whatever the tile.

use super::{DepthwiseGeometry, Epilogue, FloatWeights};
use crate::conv_f32::tile::{Vector, load_lanes, store_lanes};
use crate::geometry::even_parts;
use std::arch::x86_64::{__m256, __m512};
use std::ops::Range;

/// Most pixels of a row of a tile.
const MOST: usize = 6;

/// Lanes of the vectors of which there are 32, not 16.
const WIDE: usize = 16;

/// What the tiles of a block of channels share.
struct Block<'a> {
    g: &'a DepthwiseGeometry,
    epilogue: &'a Epilogue<'a>,
    /// From one kernel row and column to the next, and from the taps of one pixel to those of its neighbor.
    row: usize,
    column: usize,
    step: usize,
    /// The block's first channel, and its weights, tap by tap.
    first: usize,
    w: *const f32,
}

/// How a call's tiles are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// 3×3, step 1: two rows at once.
    Pairs,
    /// 3×3, step 1 and 2.
    Rows1,
    Rows2,
    Any,
}

impl Form {
    fn of<V: Vector>(g: &DepthwiseGeometry) -> Self {
        match (g.kernel, g.stride, g.dilation) {
            ([3, 3], [1, 1], [1, 1]) if V::LANES == WIDE => Self::Pairs,
            ([3, 3], [_, 1], [1, 1]) => Self::Rows1,
            ([3, 3], [_, 2], [1, 1]) => Self::Rows2,
            _ => Self::Any,
        }
    }

    /// Rows of a tile.
    fn rows(self) -> usize {
        if self == Self::Pairs { 2 } else { 1 }
    }

    /// Most pixels of a row of a tile: weights and sums must fit into the registers.
    fn most<V: Vector>(self) -> usize {
        if self == Self::Any || V::LANES == WIDE {
            MOST
        } else {
            4
        }
    }
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
    let form = Form::of::<V>(g);
    let (input, out) = (input.as_ptr(), out.as_mut_ptr());
    let mut block = Block {
        g,
        epilogue,
        row: g.dilation[0] * g.in_row_stride,
        column: g.dilation[1] * g.in_pixel_stride,
        step: g.stride[1] * g.in_pixel_stride,
        first: 0,
        w: weights.block(0),
    };
    for row in rows.clone().step_by(form.rows()) {
        let form = match rows.end - row {
            1 if form == Form::Pairs => Form::Rows1,
            _ => form,
        };
        for part in even_parts(columns.len(), form.most::<V>()) {
            let origin = g.origin(row, columns.start + part.start);
            let to = (row - rows.start) * g.out_row_stride + part.start * g.out_pixel_stride;
            // Channels last: memory is read in long runs.
            for first in (0..g.channels).step_by(V::LANES) {
                (block.first, block.w) = (first, weights.block(first));
                // SAFETY: the pixels lie in the rectangle; a vector of channels reaches less than the slack beyond the last.
                unsafe {
                    let (x, y) = (input.add(origin + first), out.add(to + first));
                    tiles::<V>(&block, form, part.len(), x, y);
                }
            }
        }
    }
}

/// A tile of `count` pixels of each of its rows.
///
/// # Safety
/// As [`any`]; for [`Form::Pairs`] both rows' pixels must be readable and writable.
#[inline(always)]
unsafe fn tiles<V: Vector>(
    block: &Block<'_>,
    form: Form,
    count: usize,
    x: *const f32,
    y: *mut f32,
) {
    macro_rules! of {
        ($function:ident::<V $(, $shape:literal)*>) => {
            match count {
                1 => $function::<V, $($shape,)* 1>(block, x, y),
                2 => $function::<V, $($shape,)* 2>(block, x, y),
                3 => $function::<V, $($shape,)* 3>(block, x, y),
                4 => $function::<V, $($shape,)* 4>(block, x, y),
                5 => $function::<V, $($shape,)* 5>(block, x, y),
                _ => $function::<V, $($shape,)* MOST>(block, x, y),
            }
        };
    }
    // SAFETY: the caller's promises.
    unsafe {
        match form {
            Form::Pairs => of!(three::<V, 1, 2>),
            Form::Rows1 => of!(three::<V, 1, 1>),
            Form::Rows2 => of!(three::<V, 2, 1>),
            Form::Any => of!(any::<V>),
        }
    }
}

/// Kernels of 3×3 without dilation, of `ROWS` rows of `N` pixels, `STEP` columns apart; two rows are neighbors.
///
/// # Safety
/// As [`any`].
#[inline(always)]
unsafe fn three<V: Vector, const STEP: usize, const ROWS: usize, const N: usize>(
    block: &Block<'_>,
    x: *const f32,
    y: *mut f32,
) {
    // SAFETY: (whole body) the caller's promises.
    unsafe {
        let w: [V; 9] = std::array::from_fn(|tap| V::load(block.w.add(tap * V::LANES)));
        let mut acc = [[V::zero(); N]; ROWS];
        // The conditions are constants: of each row and column what its pixels need is left.
        macro_rules! rows {
            ($($row:literal)*) => {$(
                if $row < ROWS + 2 {
                    let x = x.add($row * block.row);
                    columns!(x, $row: 0 1 2 3 4 5 6 7 8 9 10 11 12);
                }
            )*};
        }
        macro_rules! columns {
            ($x:ident, $row:literal: $($column:literal)*) => {$(
                if $column < (N - 1) * STEP + 3 {
                    let input = V::load($x.add($column * block.column));
                    taps!(input, $row, $column: 0 1 2);
                }
            )*};
        }
        macro_rules! taps {
            ($input:ident, $row:literal, $column:literal: $($tap:literal)*) => {$(
                if $column >= $tap && ($column - $tap) % STEP == 0 && ($column - $tap) / STEP < N {
                    let pixel = ($column - $tap) / STEP;
                    if $row < 3 {
                        acc[0][pixel] = acc[0][pixel].fma($input, w[$row % 3 * 3 + $tap]);
                    }
                    if ROWS > 1 && $row > 0 {
                        let last = &mut acc[ROWS - 1][pixel];
                        *last = last.fma($input, w[($row + 2) % 3 * 3 + $tap]);
                    }
                }
            )*};
        }
        rows!(0 1 2 3);
        for (row, acc) in acc.into_iter().enumerate() {
            store::<V, N>(block, acc, y.add(row * block.g.out_row_stride));
        }
    }
}

/// Kernels of any shape, of a row of `N` pixels.
///
/// # Safety
/// The ISA of `V` must be available; all taps of the pixels must be readable from `x` on and the block's weights; the pixels'
/// channels must be writable from `y` on.
#[inline(always)]
unsafe fn any<V: Vector, const N: usize>(block: &Block<'_>, x: *const f32, y: *mut f32) {
    let [kernel_h, kernel_w] = block.g.kernel;
    // SAFETY: (whole body) the caller's promises.
    unsafe {
        let mut acc = [V::zero(); N];
        let mut w = block.w;
        for row in 0..kernel_h {
            for column in 0..kernel_w {
                let tap = x.add(row * block.row + column * block.column);
                let weights = V::load(w);
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = acc.fma(V::load(tap.add(p * block.step)), weights);
                }
                w = w.add(V::LANES);
            }
        }
        store::<V, N>(block, acc, y);
    }
}

/// Stores a row of pixels.
///
/// # Safety
/// As [`any`].
#[inline(always)]
unsafe fn store<V: Vector, const N: usize>(block: &Block<'_>, acc: [V; N], y: *mut f32) {
    // SAFETY: (whole body) the caller's promises.
    unsafe {
        let lanes = (block.g.channels - block.first).min(V::LANES);
        let bias = match block.epilogue.bias {
            Some(bias) => load_lanes(bias.as_ptr().add(block.first), lanes),
            None => V::zero(),
        };
        for (p, acc) in acc.into_iter().enumerate() {
            let mut result = acc.add(bias);
            if block.epilogue.relu {
                result = result.max(V::zero());
            }
            if let Some(ceiling) = block.epilogue.ceiling {
                result = result.min(V::splat(&raw const ceiling));
            }
            store_lanes(result, y.add(p * block.g.out_pixel_stride), lanes);
        }
    }
}
