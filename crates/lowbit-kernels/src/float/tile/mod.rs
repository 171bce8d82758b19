//! The one algorithm under the f32 kernels: an implicit matrix product in register tiles.
//!
//! Forward, a tile is `MR` output pixels × [`NR`] vectors of output channels: each step broadcasts one input per pixel and
//! multiplies it with `NR` vectors of packed weights. In channels-last order the taps of one kernel row are contiguous in
//! memory, so the input is read in place: there is no im2col buffer. For the gradient of the weights, a tile is `MR` taps
//! × `NR` vectors of output channels, and the steps run over the output pixels.

use super::Epilogue;
use crate::ConvGeometry;
use std::ops::Range;

/// Vectors of output channels per panel of packed weights.
pub(super) const NR: usize = 2;

/// Most rows of a tile.
const MAX_MR: usize = 14;

/// Accumulators of the largest tile.
const MAX_TILE: usize = MAX_MR * NR;

/// A vector of f32, one output channel per lane.
///
/// # Safety
/// The functions may only run where the ISA that they are written for is available; pointers must be readable or writable
/// for as many lanes as the function says.
pub(super) unsafe trait Vector: Copy {
    /// Lanes per vector.
    const LANES: usize;
    /// Most rows of a tile: accumulators, weights and one input must fit into the registers.
    const MAX_MR: usize;

    unsafe fn zero() -> Self;
    /// One f32 in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    /// `LANES` f32.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `lanes` f32, zeros behind.
    unsafe fn load_part(from: *const f32, lanes: usize) -> Self;
    /// Stores the first `lanes` lanes.
    unsafe fn store_part(self, to: *mut f32, lanes: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// `a · b + self`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
}

/// The runs of contiguous taps of one output pixel, as offsets of their first elements, and their length.
fn segments(g: &ConvGeometry) -> (Vec<usize>, usize) {
    if g.in_pixel_stride == g.in_channels || g.kernel_w == 1 {
        let rows = (0..g.kernel_h).map(|row| row * g.in_row_stride);
        return (rows.collect(), g.kernel_w * g.in_channels);
    }
    let pixels = (0..g.kernel_h * g.kernel_w)
        .map(|tap| tap / g.kernel_w * g.in_row_stride + tap % g.kernel_w * g.in_pixel_stride);
    (pixels.collect(), g.in_channels)
}

/// Packs OHWI weights as `[panel][tap][vector][lane]`; missing channels are zero.
pub(super) fn pack(
    lanes: usize,
    (out_channels, fan_in): (usize, usize),
    weight: impl Fn(usize, usize) -> f32,
    packed: &mut [f32],
) {
    let width = NR * lanes;
    let panel_len = fan_in * width;
    for channel in 0..out_channels {
        let (panel, within) = (channel / width, channel % width);
        let column = &mut packed[panel * panel_len..][..panel_len];
        for (tap, row) in column.chunks_exact_mut(width).enumerate() {
            row[within] = weight(channel, tap);
        }
    }
}

/// Elements that [`pack`] fills.
pub(super) fn packed_len(lanes: usize, out_channels: usize, fan_in: usize) -> usize {
    out_channels.div_ceil(NR * lanes) * NR * lanes * fan_in
}

/// Convolves as [`super::conv`] says; `zero_rows` rows at the top and at the bottom of the input hold zeros.
///
/// # Safety
/// The ISA of `V` must be available; `panels` must come from [`pack`] with this geometry's shape; `input` must be readable
/// for `g.input_extent()` and `out` writable for `g.output_extent(rows.len())` elements; a bias must have every channel.
#[inline(always)]
pub(super) unsafe fn conv<V: Vector>(
    panels: &[f32],
    g: &ConvGeometry,
    rows: Range<usize>,
    zero_rows: usize,
    input: *const f32,
    epilogue: &Epilogue<'_>,
    out: *mut f32,
) {
    let (offsets, run) = segments(g);
    let per_row = offsets.len() / g.kernel_h.max(1);
    let in_h = (g.out_h.max(1) - 1) * g.stride + g.kernel_h;
    let pool_taps = g.pool * g.pool;
    let (row_step, pixel_step) = (g.in_row_stride * g.stride, g.in_pixel_stride * g.stride);
    let width = g.pooled_w();
    if width == 0 || g.out_channels == 0 {
        return;
    }
    // Stored pixels per tile, as equal as possible.
    let tiles = width.div_ceil((V::MAX_MR / pool_taps).max(1));
    let (base, longer) = (width / tiles, width % tiles);
    let panel_len = offsets.len() * run * NR * V::LANES;
    // SAFETY: the ISA is available.
    let mut acc = [unsafe { V::zero() }; MAX_TILE];
    for (panel, weights) in panels.chunks_exact(panel_len.max(1)).enumerate() {
        let first_channel = panel * NR * V::LANES;
        for row in rows.clone() {
            // Kernel rows that see the zeros of the halo alone, for all of a window's rows.
            let top = row * g.pool * g.stride;
            let bottom = top + (g.pool - 1) * g.stride;
            let skipped = zero_rows.saturating_sub(bottom).min(g.kernel_h);
            let seen = (in_h - zero_rows)
                .saturating_sub(top)
                .clamp(skipped, g.kernel_h);
            let offsets = &offsets[skipped * per_row..seen * per_row];
            let weights = &weights[skipped * per_row * run * NR * V::LANES..];
            let mut column = 0;
            for tile in 0..tiles {
                let stored = base + usize::from(tile < longer);
                let mut pixels = [0usize; MAX_MR];
                for (r, pixel) in pixels[..stored * pool_taps].iter_mut().enumerate() {
                    let (p, tap) = (r / pool_taps, r % pool_taps);
                    *pixel = tap / g.pool * row_step + (p * g.pool + tap % g.pool) * pixel_step;
                }
                let at = (row - rows.start) * g.out_row_stride + column * g.out_pixel_stride;
                // SAFETY: rows and columns lie inside the geometry, whose extents the caller vouches for.
                unsafe {
                    let origin = input.add((row * row_step + column * pixel_step) * g.pool);
                    let tile = Tile {
                        origin,
                        pixels: &pixels,
                        offsets,
                        run,
                        weights: weights.as_ptr(),
                    };
                    forward_of_size::<V>(stored * pool_taps, &tile, &mut acc);
                    store(
                        &acc,
                        stored,
                        pool_taps,
                        first_channel,
                        g,
                        epilogue,
                        out.add(at),
                    );
                }
                column += stored;
            }
        }
    }
}

/// Where a forward tile reads.
struct Tile<'a> {
    origin: *const f32,
    /// Offsets of the pixels from the origin.
    pixels: &'a [usize; MAX_MR],
    /// Offsets of the runs of taps from a pixel.
    offsets: &'a [usize],
    /// Taps of a run.
    run: usize,
    weights: *const f32,
}

/// One tile of `MR` pixels: accumulators go to `out[pixel · NR + vector]`.
#[inline(always)]
unsafe fn forward<V: Vector, const MR: usize>(tile: &Tile<'_>, out: &mut [V; MAX_TILE]) {
    unsafe {
        let mut acc = [[V::zero(); NR]; MR];
        let mut weights = tile.weights;
        for &offset in tile.offsets {
            let base = tile.origin.add(offset);
            for tap in 0..tile.run {
                let w = [V::load(weights), V::load(weights.add(V::LANES))];
                for r in 0..MR {
                    let x = V::splat(base.add(tile.pixels[r] + tap));
                    acc[r][0] = acc[r][0].fma(x, w[0]);
                    acc[r][1] = acc[r][1].fma(x, w[1]);
                }
                weights = weights.add(NR * V::LANES);
            }
        }
        for r in 0..MR {
            out[r * NR] = acc[r][0];
            out[r * NR + 1] = acc[r][1];
        }
    }
}

/// Calls a function that is generic in the tile's rows.
macro_rules! of_size {
    ($size:expr, $most:expr, $name:ident::<$v:ident>($($argument:expr),*)) => {
        match $size {
            1 => $name::<$v, 1>($($argument),*),
            2 => $name::<$v, 2>($($argument),*),
            3 => $name::<$v, 3>($($argument),*),
            4 => $name::<$v, 4>($($argument),*),
            5 => $name::<$v, 5>($($argument),*),
            6 => $name::<$v, 6>($($argument),*),
            7 if $most >= 7 => $name::<$v, 7>($($argument),*),
            8 if $most >= 8 => $name::<$v, 8>($($argument),*),
            9 if $most >= 9 => $name::<$v, 9>($($argument),*),
            10 if $most >= 10 => $name::<$v, 10>($($argument),*),
            11 if $most >= 11 => $name::<$v, 11>($($argument),*),
            12 if $most >= 12 => $name::<$v, 12>($($argument),*),
            13 if $most >= 13 => $name::<$v, 13>($($argument),*),
            14 if $most >= 14 => $name::<$v, 14>($($argument),*),
            _ => unreachable!("tiles have 1 to MAX_MR rows"),
        }
    };
}

#[inline(always)]
unsafe fn forward_of_size<V: Vector>(mr: usize, tile: &Tile<'_>, out: &mut [V; MAX_TILE]) {
    unsafe { of_size!(mr, V::MAX_MR, forward::<V>(tile, out)) }
}

/// Pools, adds the bias, cuts at zero and stores `stored` pixels.
#[inline(always)]
unsafe fn store<V: Vector>(
    acc: &[V; MAX_TILE],
    stored: usize,
    pool_taps: usize,
    first_channel: usize,
    g: &ConvGeometry,
    epilogue: &Epilogue<'_>,
    out: *mut f32,
) {
    for v in 0..NR {
        let channel = first_channel + v * V::LANES;
        if channel >= g.out_channels {
            break;
        }
        let lanes = (g.out_channels - channel).min(V::LANES);
        unsafe {
            let bias = match epilogue.bias {
                Some(bias) => V::load_part(bias.as_ptr().add(channel), lanes),
                None => V::zero(),
            };
            for p in 0..stored {
                let mut best = acc[p * pool_taps * NR + v];
                for tap in 1..pool_taps {
                    best = best.max(acc[(p * pool_taps + tap) * NR + v]);
                }
                best = best.add(bias);
                if epilogue.relu {
                    best = best.max(V::zero());
                }
                best.store_part(out.add(p * g.out_pixel_stride + channel), lanes);
            }
        }
    }
}

/// Adds the gradient of the weights as [`super::conv_grad_weights`] says.
///
/// # Safety
/// The ISA of `V` must be available; `input` must be readable for `g.input_extent()`, `grad_out` for
/// `g.output_extent(g.out_h) + SLACK` and `grad_weights` writable for all weights.
#[inline(always)]
pub(super) unsafe fn conv_grad_weights<V: Vector>(
    g: &ConvGeometry,
    input: *const f32,
    grad_out: *const f32,
    grad_weights: *mut f32,
) {
    let (offsets, run) = segments(g);
    if run == 0 {
        return;
    }
    let tiles = run.div_ceil(V::MAX_MR);
    let (base, longer) = (run / tiles, run % tiles);
    for first_channel in (0..g.out_channels).step_by(NR * V::LANES) {
        for (segment, &offset) in offsets.iter().enumerate() {
            let mut tap = 0;
            for tile in 0..tiles {
                let taps = base + usize::from(tile < longer);
                // SAFETY: taps and channels lie inside the geometry, whose extents the caller vouches for.
                unsafe {
                    let to = (segment * run + tap) * g.out_channels + first_channel;
                    let tile = GradTile {
                        input: input.add(offset + tap),
                        grad_out: grad_out.add(first_channel),
                        lanes: lanes::<V>(g.out_channels - first_channel),
                        to: grad_weights.add(to),
                    };
                    of_size!(taps, V::MAX_MR, grad::<V>(g, &tile));
                }
                tap += taps;
            }
        }
    }
}

/// Lanes in use of each of a tile's vectors when `channels` are left.
fn lanes<V: Vector>(channels: usize) -> [usize; NR] {
    [
        channels.min(V::LANES),
        channels.saturating_sub(V::LANES).min(V::LANES),
    ]
}

/// Where a tile of the gradient of the weights reads and writes.
struct GradTile {
    input: *const f32,
    grad_out: *const f32,
    lanes: [usize; NR],
    to: *mut f32,
}

/// One tile of `MR` adjacent taps over all output pixels.
#[inline(always)]
unsafe fn grad<V: Vector, const MR: usize>(g: &ConvGeometry, tile: &GradTile) {
    unsafe {
        let mut acc = [[V::zero(); NR]; MR];
        for r in 0..MR {
            for v in 0..NR {
                let from = tile.to.add(r * g.out_channels + v * V::LANES);
                acc[r][v] = V::load_part(from, tile.lanes[v]);
            }
        }
        for row in 0..g.out_h {
            let mut x = tile.input.add(row * g.stride * g.in_row_stride);
            let mut dy = tile.grad_out.add(row * g.out_row_stride);
            for _ in 0..g.out_w {
                // Lanes behind the last channel see what lies there; they are not stored.
                let d = [V::load(dy), V::load(dy.add(V::LANES))];
                for r in 0..MR {
                    let tap = V::splat(x.add(r));
                    acc[r][0] = acc[r][0].fma(tap, d[0]);
                    acc[r][1] = acc[r][1].fma(tap, d[1]);
                }
                x = x.add(g.stride * g.in_pixel_stride);
                dy = dy.add(g.out_pixel_stride);
            }
        }
        for r in 0..MR {
            for v in 0..NR {
                let to = tile.to.add(r * g.out_channels + v * V::LANES);
                acc[r][v].store_part(to, tile.lanes[v]);
            }
        }
    }
}
