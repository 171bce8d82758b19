//! Gradient of the weights.

use super::{NR, Panel, Run, Vector, load_lanes, most_rows, of_size, panels, runs, store_lanes};
use crate::geometry::even_parts;
use crate::{ConvGeometry, ImagesGeometry};

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
    let (runs, run) = runs(g);
    let pixels = Pixels {
        images: 1,
        image_strides: [0, 0],
        rows: g.out_h,
        columns: g.out_w,
        goes_on: true,
    };
    for panel in panels(V::LANES, g.out_channels, 0) {
        for Run { offset, tap } in runs.iter().copied() {
            // SAFETY: taps and channels lie inside the geometry, whose extents the caller vouches for.
            unsafe {
                let to = tap * g.out_channels;
                let part = Part {
                    input: input.add(offset),
                    grad_out,
                    channels: g.out_channels,
                    to: grad_weights.add(to),
                };
                of_panel::<V>(g, &pixels, run, &panel, &part);
            }
        }
    }
}

/// Writes the gradient of the weights of several images as [`crate::conv_f32::conv_images_grad_weights`] says.
///
/// # Safety
/// As [`conv_grad_weights`], for all images.
#[inline(always)]
pub(in crate::conv_f32) unsafe fn conv_images_grad_weights<V: Vector>(
    images: &ImagesGeometry,
    input: *const f32,
    grad_out: *const f32,
    grad_weights: *mut f32,
) {
    let g = &images.image;
    let [rows, columns] = images.axes();
    let run = g.in_channels;
    for panel in panels(V::LANES, g.out_channels, 0) {
        for kernel_row in 0..g.kernel_h {
            let rows = rows.seeing(kernel_row);
            for kernel_column in 0..g.kernel_w {
                let columns = columns.seeing(kernel_column);
                let pixels = Pixels {
                    images: images.images,
                    image_strides: [images.in_image_stride, images.out_image_stride],
                    rows: rows.len(),
                    columns: columns.len(),
                    goes_on: false,
                };
                let seen = [
                    rows.start * g.stride + kernel_row,
                    columns.start * g.stride + kernel_column,
                ];
                // SAFETY: taps, pixels and channels lie inside the geometry, whose extents the caller vouches for; where there
                // are no pixels, nothing is read.
                unsafe {
                    let tap = kernel_row * g.kernel_w + kernel_column;
                    let part = Part {
                        input: input
                            .wrapping_add(seen[0] * g.in_row_stride + seen[1] * g.in_pixel_stride),
                        grad_out: grad_out.wrapping_add(
                            rows.start * g.out_row_stride + columns.start * g.out_pixel_stride,
                        ),
                        channels: g.out_channels,
                        to: grad_weights.add(tap * run * g.out_channels),
                    };
                    of_panel::<V>(g, &pixels, run, &panel, &part);
                }
            }
        }
    }
}

/// The output pixels of a sum: those of a rectangle, in each of some images.
struct Pixels {
    images: usize,
    /// From one image to the next, of the input and of the gradient.
    image_strides: [usize; 2],
    rows: usize,
    columns: usize,
    /// Whether their sum is added to what is there, or stands in its place.
    goes_on: bool,
}

/// Where a run of taps, or a tile of it, reads and writes.
struct Part {
    input: *const f32,
    grad_out: *const f32,
    /// Output channels that are left.
    channels: usize,
    to: *mut f32,
}

/// The channels of a panel; `part` begins with the first channel of all.
///
/// # Safety
/// As [`grad_run`].
#[inline(always)]
unsafe fn of_panel<V: Vector>(
    g: &ConvGeometry,
    pixels: &Pixels,
    run: usize,
    panel: &Panel,
    part: &Part,
) {
    // SAFETY: the panel's channels are some of all.
    unsafe {
        let part = Part {
            grad_out: part.grad_out.add(panel.first_channel),
            channels: part.channels - panel.first_channel,
            to: part.to.add(panel.first_channel),
            ..*part
        };
        match panel.vectors {
            1 => grad_run::<V, 1>(g, pixels, run, &part),
            _ => grad_run::<V, NR>(g, pixels, run, &part),
        }
    }
}

/// # Safety
/// As [`conv_grad_weights`], for the run's taps and the pixels.
#[inline(always)]
unsafe fn grad_run<V: Vector, const N: usize>(
    g: &ConvGeometry,
    pixels: &Pixels,
    run: usize,
    part: &Part,
) {
    for taps in even_parts(run, most_rows::<V>(N)) {
        let (tap, taps) = (taps.start, taps.len());
        // SAFETY: the tile lies in the run.
        unsafe {
            let tile = Part {
                input: part.input.add(tap),
                to: part.to.add(tap * g.out_channels),
                ..*part
            };
            of_size!(taps, grad::<V, N>(g, pixels, &tile));
        }
    }
}

/// One tile of `MR` adjacent taps over all pixels.
///
/// # Safety
/// As [`conv_grad_weights`], for the tile's taps and channels.
#[inline(always)]
unsafe fn grad<V: Vector, const N: usize, const MR: usize>(
    g: &ConvGeometry,
    pixels: &Pixels,
    tile: &Part,
) {
    let lanes = |v: usize| (tile.channels - v * V::LANES).min(V::LANES);
    // SAFETY: the caller's promises. Lanes behind the last channel read the slack; they are not stored.
    unsafe {
        let mut acc = [[V::zero(); N]; MR];
        for r in 0..if pixels.goes_on { MR } else { 0 } {
            for v in 0..N {
                acc[r][v] = load_lanes(tile.to.add(r * g.out_channels + v * V::LANES), lanes(v));
            }
        }
        for image in 0..pixels.images {
            let x = tile.input.add(image * pixels.image_strides[0]);
            let dy = tile.grad_out.add(image * pixels.image_strides[1]);
            for row in 0..pixels.rows {
                let x = x.add(row * g.stride * g.in_row_stride);
                let dy = dy.add(row * g.out_row_stride);
                for column in 0..pixels.columns {
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
        }
        for r in 0..MR {
            for v in 0..N {
                let to = tile.to.add(r * g.out_channels + v * V::LANES);
                store_lanes(acc[r][v], to, lanes(v));
            }
        }
    }
}
