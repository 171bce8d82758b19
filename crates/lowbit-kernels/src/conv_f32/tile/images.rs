//! Forward convolution of several images whose maps have few pixels: a tile is one pixel of neighboring images.

use super::forward::{Stored, Tile, forward, store};
use super::{MAX_MR, NR, Run, Vector, has_whole_rows, most_rows, of_size, panels};
use crate::ImagesGeometry;
use crate::conv_f32::Epilogue;
use crate::geometry::even_starts;
use crate::images::Axis;
use std::ops::Range;

/// One call, prepared for its tiles.
struct Call<'a> {
    g: &'a ImagesGeometry,
    rows: Axis,
    columns: Axis,
    /// For each range of kernel columns the runs of contiguous taps of all kernel rows.
    runs: Vec<Vec<Run>>,
    has_whole_rows: bool,
    /// Offsets of a tile's images from its first one.
    images: [usize; MAX_MR],
    input: *const f32,
    epilogue: &'a Epilogue<'a>,
    out: *mut f32,
}

/// Convolves as [`crate::conv_f32::conv_images`] says.
///
/// # Safety
/// The ISA of `V` must be available; `packed` must come from [`super::pack`] with this geometry's shape; `input` must be
/// readable for `g.input_extent()` and `out` writable for `g.output_extent()` elements; a bias must have every channel.
#[inline(always)]
pub(in crate::conv_f32) unsafe fn conv_images<V: Vector>(
    packed: &[f32],
    g: &ImagesGeometry,
    input: *const f32,
    epilogue: &Epilogue<'_>,
    out: *mut f32,
) {
    let image = &g.image;
    let [rows, columns] = g.axes();
    let has_whole_rows = has_whole_rows(image);
    let runs = |columns: &Range<usize>| -> Vec<Run> {
        let firsts = match has_whole_rows {
            true => columns.start..columns.end.min(columns.start + 1),
            false => columns.clone(),
        };
        let rows = 0..image.kernel_h;
        rows.flat_map(|row| {
            firsts
                .clone()
                .map(move |column| Run::new(image, row, column))
        })
        .collect()
    };
    let call = Call {
        g,
        runs: columns.ranges.iter().map(runs).collect(),
        has_whole_rows,
        rows,
        columns,
        // Offsets of more images than there are are not used: they may be anything.
        images: std::array::from_fn(|r| r.wrapping_mul(g.in_image_stride)),
        input,
        epilogue,
        out,
    };
    let fan_in = image.kernel_h * image.kernel_w * image.in_channels;
    for panel in panels(V::LANES, image.out_channels, fan_in) {
        let weights = packed[panel.offset..].as_ptr();
        // SAFETY: the caller's promises; the panel is that of its vectors.
        unsafe {
            match panel.vectors {
                1 => panel_of_images::<V, 1>(&call, panel.first_channel, weights),
                _ => panel_of_images::<V, NR>(&call, panel.first_channel, weights),
            }
        }
    }
}

/// # Safety
/// As [`conv_images`]; `weights` must be the panel's.
#[inline(always)]
unsafe fn panel_of_images<V: Vector, const N: usize>(
    call: &Call<'_>,
    first_channel: usize,
    weights: *const f32,
) {
    let (g, image) = (call.g, &call.g.image);
    let tiles = even_starts(g.images, most_rows::<V>(N));
    // SAFETY: the ISA is available.
    let mut acc = [[unsafe { V::zero() }; N]; MAX_MR];
    for row in 0..image.out_h {
        let kernel_rows = call.rows.of(row);
        for column in 0..image.out_w {
            let kernel_columns = call.columns.of(column);
            let runs = &call.runs[call.columns.kinds[column]];
            let per_row = runs.len() / image.kernel_h.max(1);
            let runs = &runs[kernel_rows.start * per_row..kernel_rows.end * per_row];
            let run_pixels = match call.has_whole_rows {
                true => kernel_columns.len(),
                false => 1,
            };
            let pixel = row * image.stride * image.in_row_stride
                + column * image.stride * image.in_pixel_stride;
            let at = row * image.out_row_stride + column * image.out_pixel_stride;
            for (first, count) in tiles.clone() {
                // SAFETY: the images' pixels lie inside the geometry, whose extents the caller vouches for, and the window
                // inside the kernel.
                unsafe {
                    let tile = Tile {
                        origin: call.input.add(first * g.in_image_stride + pixel),
                        pixels: &call.images,
                        runs,
                        run: run_pixels * image.in_channels,
                        weights,
                        goes_on: false,
                    };
                    let to = acc.as_mut_ptr();
                    of_size!(count, forward::<V, N>(&tile, to));
                    let to = Stored {
                        pixels: count,
                        pool_taps: 1,
                        pixel_stride: g.out_image_stride,
                        channels: image.out_channels,
                        out: call.out.add(first * g.out_image_stride + at),
                    };
                    store(&acc, first_channel, &to, call.epilogue);
                }
            }
        }
    }
}
