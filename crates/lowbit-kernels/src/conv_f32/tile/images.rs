//! Forward convolution of several images whose maps have few pixels: a tile is one pixel of neighboring images.

use super::forward::{Stored, Tile, forward, store};
use super::{MAX_MR, NR, Vector, most_rows, of_size, panels};
use crate::ImagesGeometry;
use crate::conv_f32::Epilogue;
use crate::geometry::even_starts;
use crate::images::Axis;

/// One call, prepared for its tiles.
struct Call<'a> {
    g: &'a ImagesGeometry,
    rows: Axis,
    columns: Axis,
    /// Offsets of the kernel's rows.
    offsets: Vec<usize>,
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
    let call = Call {
        g,
        rows,
        columns,
        offsets: (0..image.kernel_h)
            .map(|row| row * image.in_row_stride)
            .collect(),
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
            let first_tap = kernel_rows.start * image.kernel_w + kernel_columns.start;
            let left_out = image.kernel_w - kernel_columns.len();
            let pixel = row * image.stride * image.in_row_stride
                + (column * image.stride + kernel_columns.start) * image.in_channels;
            let at = row * image.out_row_stride + column * image.out_pixel_stride;
            for (first, count) in tiles.clone() {
                // SAFETY: the images' pixels lie inside the geometry, whose extents the caller vouches for, and the window
                // inside the kernel.
                unsafe {
                    let tile = Tile {
                        origin: call.input.add(first * g.in_image_stride + pixel),
                        pixels: &call.images,
                        offsets: &call.offsets[kernel_rows.clone()],
                        run: kernel_columns.len() * image.in_channels,
                        weights: weights.add(first_tap * image.in_channels * N * V::LANES),
                        skip: left_out * image.in_channels * N * V::LANES,
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
