//! Forward convolution, and with turned weights the gradient of the input.

use super::{MAX_MR, NR, Run, Vector, load_lanes, most_rows, of_size, panels, runs, store_lanes};
use crate::ConvGeometry;
use crate::conv_f32::Epilogue;
use crate::geometry::even_starts;
use std::ops::Range;

/// One call, prepared for its tiles.
struct Call<'a> {
    g: &'a ConvGeometry,
    rows: Range<usize>,
    /// Rows and columns of zeros around the input.
    border: usize,
    /// Rows and columns of the input, border included.
    in_h: usize,
    in_w: usize,
    /// Runs of contiguous taps, `per_row` of them to a kernel row.
    runs: Vec<Run>,
    run: usize,
    per_row: usize,
    /// Offsets of a tile's pixels from its first one; the pixels of a pooling window follow each other.
    pixels: [usize; MAX_MR],
    input: *const f32,
    epilogue: &'a Epilogue<'a>,
    out: *mut f32,
}

/// Convolves as [`crate::conv_f32::conv_haloed`] says.
///
/// # Safety
/// The ISA of `V` must be available; `packed` must come from [`super::pack`] with this geometry's shape; `input` must be
/// readable for `g.input_extent()` and `out` writable for `g.output_extent(rows.len())` elements; a bias must have every
/// channel; `rows` must exist; the border must not be wider than half the input.
#[inline(always)]
pub(in crate::conv_f32) unsafe fn conv<V: Vector>(
    packed: &[f32],
    g: &ConvGeometry,
    rows: Range<usize>,
    border: usize,
    input: *const f32,
    epilogue: &Epilogue<'_>,
    out: *mut f32,
) {
    if g.pooled_w() == 0 || rows.is_empty() || g.out_channels == 0 {
        return;
    }
    let (runs, run) = runs(g);
    let pool_taps = g.pool * g.pool;
    let mut pixels = [0usize; MAX_MR];
    for (r, pixel) in pixels.iter_mut().enumerate() {
        let (p, tap) = (r / pool_taps, r % pool_taps);
        let (y, x) = (tap / g.pool, p * g.pool + tap % g.pool);
        // Offsets of more pixels than the map has are not used: they may be anything.
        *pixel = (y * g.in_row_stride)
            .wrapping_add(x.wrapping_mul(g.in_pixel_stride))
            .wrapping_mul(g.stride);
    }
    let call = Call {
        g,
        rows,
        border,
        in_h: (g.out_h - 1) * g.stride + g.kernel_h,
        in_w: (g.out_w - 1) * g.stride + g.kernel_w,
        per_row: runs.len() / g.kernel_h.max(1),
        runs,
        run,
        pixels,
        input,
        epilogue,
        out,
    };
    let fan_in = g.kernel_h * g.kernel_w * g.in_channels;
    for panel in panels(V::LANES, g.out_channels, fan_in) {
        let weights = packed[panel.offset..].as_ptr();
        // SAFETY: the caller's promises; the panel is that of its vectors.
        unsafe {
            match panel.vectors {
                1 => conv_panel::<V, 1>(&call, panel.first_channel, weights),
                _ => conv_panel::<V, NR>(&call, panel.first_channel, weights),
            }
        }
    }
}

/// # Safety
/// As [`conv`]; `weights` must be the panel's.
#[inline(always)]
unsafe fn conv_panel<V: Vector, const N: usize>(
    call: &Call<'_>,
    first_channel: usize,
    weights: *const f32,
) {
    let g = call.g;
    let pool_taps = g.pool * g.pool;
    let tiles = even_starts(g.pooled_w(), (most_rows::<V>(N) / pool_taps).max(1));
    // SAFETY: the ISA is available.
    let mut acc = [[unsafe { V::zero() }; N]; MAX_MR];
    for row in call.rows.clone() {
        // Kernel rows that see the zeros of the border alone, for all of a window's rows.
        let top = row * g.pool * g.stride;
        let bottom = top + (g.pool - 1) * g.stride;
        let first = call.border.saturating_sub(bottom).min(g.kernel_h);
        let last = (call.in_h - call.border).saturating_sub(top);
        let kernel_rows = first..last.clamp(first, g.kernel_h);
        let runs = &call.runs[kernel_rows.start * call.per_row..kernel_rows.end * call.per_row];
        for (column, stored) in tiles.clone() {
            let left = column * g.pool * g.stride;
            let right = left + (stored * g.pool - 1) * g.stride + g.kernel_w;
            let inside = left >= call.border && right <= call.in_w - call.border;
            // SAFETY: rows and columns lie inside the geometry, whose extents the caller vouches for.
            unsafe {
                let tile = Tile {
                    origin: call
                        .input
                        .add(top * g.in_row_stride + left * g.in_pixel_stride),
                    pixels: &call.pixels,
                    runs,
                    run: call.run,
                    weights,
                    goes_on: false,
                };
                if inside || g.pool != 1 {
                    let to = acc.as_mut_ptr();
                    of_size!(stored * pool_taps, forward::<V, N>(&tile, to));
                } else {
                    at_border(call, &tile, kernel_rows.clone(), (column, stored), &mut acc);
                }
                let at = (row - call.rows.start) * g.out_row_stride + column * g.out_pixel_stride;
                let to = Stored {
                    pixels: stored,
                    pool_taps,
                    pixel_stride: g.out_pixel_stride,
                    channels: g.out_channels,
                    out: call.out.add(at),
                };
                store(&acc, first_channel, &to, call.epilogue);
            }
        }
    }
}

/// A tile some of whose pixels see columns of zeros: the taps of each kernel column are for the pixels that see more.
///
/// # Safety
/// As [`forward`] with all of the call's offsets; the tile must lie inside the map.
#[inline(always)]
unsafe fn at_border<V: Vector, const N: usize>(
    call: &Call<'_>,
    tile: &Tile<'_>,
    kernel_rows: Range<usize>,
    (column, stored): (usize, usize),
    acc: &mut [[V; N]; MAX_MR],
) {
    let g = call.g;
    // SAFETY: the ISA is available.
    acc[..stored].fill([unsafe { V::zero() }; N]);
    // The tile's pixels from which on a kernel column sees input column `from`.
    let pixels_before = |from: usize, kernel_column: usize| {
        let pixels = from.saturating_sub(kernel_column).div_ceil(g.stride);
        pixels.saturating_sub(column).min(stored)
    };
    for kernel_row in kernel_rows.clone() {
        for kernel_column in 0..g.kernel_w {
            let low = pixels_before(call.border, kernel_column);
            let high = pixels_before(call.in_w - call.border, kernel_column);
            if low >= high {
                continue;
            }
            let run = Run::new(g, kernel_row, kernel_column);
            // SAFETY: `low..high` are pixels of the tile, and the taps are among its own.
            unsafe {
                let part = Tile {
                    origin: tile.origin.add(call.pixels[low]),
                    runs: &[run],
                    run: g.in_channels,
                    goes_on: true,
                    ..*tile
                };
                let to = acc[low..].as_mut_ptr();
                of_size!(high - low, forward::<V, N>(&part, to));
            }
        }
    }
}

/// Where a tile reads.
pub(super) struct Tile<'a> {
    pub(super) origin: *const f32,
    /// Offsets of the pixels from the origin.
    pub(super) pixels: &'a [usize; MAX_MR],
    pub(super) runs: &'a [Run],
    /// Taps of a run.
    pub(super) run: usize,
    /// The panel's, of the first tap.
    pub(super) weights: *const f32,
    /// Whether the accumulators hold something to add to.
    pub(super) goes_on: bool,
}

/// Adds one tile of `MR` pixels to its accumulators.
///
/// # Safety
/// The ISA of `V` must be available; each run must be readable from each pixel, the weights for all taps; `to` must be
/// `MR` pixels' accumulators.
#[inline(always)]
pub(super) unsafe fn forward<V: Vector, const N: usize, const MR: usize>(
    tile: &Tile<'_>,
    to: *mut [V; N],
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut acc = [[V::zero(); N]; MR];
        if tile.goes_on {
            acc = *to.cast();
        }
        for run in tile.runs {
            let mut weights = tile.weights.add(run.tap * N * V::LANES);
            let pixels: [*const f32; MR] =
                std::array::from_fn(|r| tile.origin.add(run.offset + tile.pixels[r]));
            for tap in 0..tile.run {
                let mut w = [V::zero(); N];
                for v in 0..N {
                    w[v] = V::load(weights.add(v * V::LANES));
                }
                for r in 0..MR {
                    V::fma_splat(&mut acc[r], pixels[r], tap, &w);
                }
                weights = weights.add(N * V::LANES);
            }
        }
        *to.cast() = acc;
    }
}

/// Where a tile is stored.
pub(super) struct Stored {
    pub(super) pixels: usize,
    /// Accumulators of a stored pixel.
    pub(super) pool_taps: usize,
    pub(super) pixel_stride: usize,
    /// Output channels of the convolution.
    pub(super) channels: usize,
    pub(super) out: *mut f32,
}

/// Pools, adds the bias, cuts at zero and stores pixels.
///
/// # Safety
/// The ISA of `V` must be available; `to.out` must be writable for the pixels' channels from `first_channel` on, and a bias have
/// all of them.
#[inline(always)]
pub(super) unsafe fn store<V: Vector, const N: usize>(
    acc: &[[V; N]; MAX_MR],
    first_channel: usize,
    to: &Stored,
    epilogue: &Epilogue<'_>,
) {
    for v in 0..N {
        let channel = first_channel + v * V::LANES;
        let lanes = (to.channels - channel).min(V::LANES);
        // SAFETY: the caller's promises; `lanes` channels are left.
        unsafe {
            let bias = match epilogue.bias {
                Some(bias) => load_lanes(bias.as_ptr().add(channel), lanes),
                None => V::zero(),
            };
            for p in 0..to.pixels {
                let mut best = acc[p * to.pool_taps][v];
                for tap in 1..to.pool_taps {
                    best = best.max(acc[p * to.pool_taps + tap][v]);
                }
                best = best.add(bias);
                if epilogue.relu {
                    best = best.max(V::zero());
                }
                if let Some(ceiling) = epilogue.ceiling {
                    best = best.min(V::splat(&raw const ceiling));
                }
                store_lanes(best, to.out.add(p * to.pixel_stride + channel), lanes);
            }
        }
    }
}
