//! The scalar twin: defines what every other kernel must produce.

use super::codes::Codes;
use crate::{ConvGeometry, ImagesGeometry};
use std::ops::Range;

pub(super) fn conv<T>(
    weights: &Codes,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    out: &mut [T],
    store: impl Fn(i32, usize) -> T,
) {
    let mut filter = Vec::new();
    for c in 0..g.out_channels {
        weights.channel(c, &mut filter);
        for row in rows.clone() {
            for column in 0..g.pooled_w() {
                let mut best = i32::MIN;
                for dy in 0..g.pool {
                    for dx in 0..g.pool {
                        let top = (row * g.pool + dy) * g.stride;
                        let left = (column * g.pool + dx) * g.stride;
                        let view = &input[top * g.in_row_stride + left * g.in_pixel_stride..];
                        best = best.max(acc_offset[c].wrapping_add(product(g, view, &filter)));
                    }
                }
                let pixel = (row - rows.start) * g.out_row_stride + column * g.out_pixel_stride;
                out[pixel + c] = store(best, c);
            }
        }
    }
}

/// Σ x·w of one output pixel and channel, modulo 2³².
fn product(g: &ConvGeometry, view: &[u8], filter: &[i16]) -> i32 {
    let mut acc = 0i32;
    for kh in 0..g.kernel_h {
        for kw in 0..g.kernel_w {
            let pixel = &view[kh * g.in_row_stride + kw * g.in_pixel_stride..][..g.in_channels];
            let taps = &filter[(kh * g.kernel_w + kw) * g.in_channels..][..g.in_channels];
            for (&x, &w) in pixel.iter().zip(taps) {
                acc = acc.wrapping_add(i32::from(x) * i32::from(w));
            }
        }
    }
    acc
}

/// The convolution of one image after the other; taps in the border are left out, and each window has starts of its own.
pub(super) fn conv_images<T>(
    weights: &Codes,
    images: &ImagesGeometry,
    input: &[u8],
    acc_offset: &[i32],
    out: &mut [T],
    store: impl Fn(i32, usize) -> T,
) {
    let g = &images.image;
    let [rows, columns] = images.axes();
    let mut filter = Vec::new();
    for c in 0..g.out_channels {
        weights.channel(c, &mut filter);
        for (row, column) in (0..g.out_h).flat_map(|y| (0..g.out_w).map(move |x| (y, x))) {
            let [top, left] = [row * g.stride, column * g.stride];
            let sees =
                |tap: usize| images.is_inside([top + tap / g.kernel_w, left + tap % g.kernel_w]);
            let taps = 0..g.kernel_h * g.kernel_w;
            let window = rows.kinds[row] * columns.ranges.len() + columns.kinds[column];
            for image in 0..images.images {
                let input = &input[image * images.in_image_stride..];
                let mut acc = acc_offset[window * g.out_channels + c];
                for tap in taps.clone().filter(|&tap| sees(tap)) {
                    let (y, x) = (top + tap / g.kernel_w, left + tap % g.kernel_w);
                    let pixel = &input[y * g.in_row_stride + x * g.in_pixel_stride..];
                    let weights = &filter[tap * g.in_channels..][..g.in_channels];
                    for (&x, &w) in pixel.iter().zip(weights) {
                        acc = acc.wrapping_add(i32::from(x) * i32::from(w));
                    }
                }
                let at = image * images.out_image_stride
                    + row * g.out_row_stride
                    + column * g.out_pixel_stride;
                out[at + c] = store(acc, c);
            }
        }
    }
}
