//! Gradient of the weights.

use super::{NR, Vector, load_lanes, most_rows, of_size, panels, segments, store_lanes};
use crate::ConvGeometry;
use crate::geometry::even_parts;

/// Adds the gradient of the weights as [`crate::conv_f32::conv_grad_weights`] says.
///
/// # Safety
/// The ISA of `V` must be available; `input` must be readable for `g.input_extent()`, `grad_out` for
/// `g.output_extent(g.out_h) + SLACK` and `grad_weights` writable for all weights.
#[inline(always)]
pub(in crate::conv_f32) unsafe fn conv_grad_weights<V: Vector>(
    g: &ConvGeometry,
    input: *const f32,
    grad_out: *const f32,
    grad_weights: *mut f32,
) {
    if g.out_h == 0 || g.out_w == 0 {
        return;
    }
    let (offsets, run) = segments(g);
    for panel in panels(V::LANES, g.out_channels, 0) {
        for (segment, &offset) in offsets.iter().enumerate() {
            // SAFETY: taps and channels lie inside the geometry, whose extents the caller vouches for.
            unsafe {
                let to = segment * run * g.out_channels + panel.first_channel;
                let part = Part {
                    input: input.add(offset),
                    grad_out: grad_out.add(panel.first_channel),
                    channels: g.out_channels - panel.first_channel,
                    to: grad_weights.add(to),
                };
                match panel.vectors {
                    1 => grad_run::<V, 1>(g, run, &part),
                    _ => grad_run::<V, NR>(g, run, &part),
                }
            }
        }
    }
}

/// Where a run of taps, or a tile of it, reads and writes.
struct Part {
    input: *const f32,
    grad_out: *const f32,
    /// Output channels that are left.
    channels: usize,
    to: *mut f32,
}

/// # Safety
/// As [`conv_grad_weights`]; the run lies in one segment.
#[inline(always)]
unsafe fn grad_run<V: Vector, const N: usize>(g: &ConvGeometry, run: usize, part: &Part) {
    for taps in even_parts(run, most_rows::<V>(N)) {
        let (tap, taps) = (taps.start, taps.len());
        // SAFETY: the tile lies in the run.
        unsafe {
            let tile = Part {
                input: part.input.add(tap),
                to: part.to.add(tap * g.out_channels),
                ..*part
            };
            of_size!(taps, grad::<V, N>(g, &tile));
        }
    }
}

/// One tile of `MR` adjacent taps over all output pixels.
///
/// # Safety
/// As [`conv_grad_weights`], for the tile's taps and channels.
#[inline(always)]
unsafe fn grad<V: Vector, const N: usize, const MR: usize>(g: &ConvGeometry, tile: &Part) {
    let lanes = |v: usize| (tile.channels - v * V::LANES).min(V::LANES);
    // SAFETY: the caller's promises. Lanes behind the last channel read the slack; they are not stored.
    unsafe {
        let mut acc = [[V::zero(); N]; MR];
        for r in 0..MR {
            for v in 0..N {
                acc[r][v] = load_lanes(tile.to.add(r * g.out_channels + v * V::LANES), lanes(v));
            }
        }
        for row in 0..g.out_h {
            let x = tile.input.add(row * g.stride * g.in_row_stride);
            let dy = tile.grad_out.add(row * g.out_row_stride);
            for column in 0..g.out_w {
                let x = x.add(column * g.stride * g.in_pixel_stride);
                let dy = dy.add(column * g.out_pixel_stride);
                let mut d = [V::zero(); N];
                for v in 0..N {
                    d[v] = V::load(dy.add(v * V::LANES));
                }
                for r in 0..MR {
                    let tap = V::splat(x.add(r));
                    for v in 0..N {
                        acc[r][v] = acc[r][v].fma(tap, d[v]);
                    }
                }
            }
        }
        for r in 0..MR {
            for v in 0..N {
                let to = tile.to.add(r * g.out_channels + v * V::LANES);
                store_lanes(acc[r][v], to, lanes(v));
            }
        }
    }
}
