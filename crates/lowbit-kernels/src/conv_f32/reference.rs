//! The scalar twins: plain loops that define what every other kernel must produce.

use super::Epilogue;
use crate::{ConvGeometry, ImagesGeometry};
use std::ops::Range;

pub(super) fn conv(
    ohwi: &[f32],
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let fan_in = g.kernel_h * g.kernel_w * g.in_channels;
    for row in rows.clone() {
        for column in 0..g.pooled_w() {
            let pixel = (row - rows.start) * g.out_row_stride + column * g.out_pixel_stride;
            for c in 0..g.out_channels {
                let filter = &ohwi[c * fan_in..][..fan_in];
                let mut best = f32::NEG_INFINITY;
                for dy in 0..g.pool {
                    for dx in 0..g.pool {
                        let top = (row * g.pool + dy) * g.stride;
                        let left = (column * g.pool + dx) * g.stride;
                        let mut acc = 0.0f32;
                        for kh in 0..g.kernel_h {
                            for kw in 0..g.kernel_w {
                                let at =
                                    (top + kh) * g.in_row_stride + (left + kw) * g.in_pixel_stride;
                                let taps = &filter[(kh * g.kernel_w + kw) * g.in_channels..]
                                    [..g.in_channels];
                                for (&x, &w) in input[at..][..g.in_channels].iter().zip(taps) {
                                    acc = x.mul_add(w, acc);
                                }
                            }
                        }
                        best = best.max(epilogue.apply(acc, c));
                    }
                }
                out[pixel + c] = best;
            }
        }
    }
}

pub(super) fn conv_grad_weights(
    g: &ConvGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    for kh in 0..g.kernel_h {
        for kw in 0..g.kernel_w {
            for i in 0..g.in_channels {
                let at = ((kh * g.kernel_w + kw) * g.in_channels + i) * g.out_channels;
                let into = &mut grad_weights[at..][..g.out_channels];
                for row in 0..g.out_h {
                    for column in 0..g.out_w {
                        let x = input[(row * g.stride + kh) * g.in_row_stride
                            + (column * g.stride + kw) * g.in_pixel_stride
                            + i];
                        let grad =
                            &grad_out[row * g.out_row_stride + column * g.out_pixel_stride..];
                        for (sum, &dy) in into.iter_mut().zip(grad) {
                            *sum = x.mul_add(dy, *sum);
                        }
                    }
                }
            }
        }
    }
}

/// The convolution of one image after the other; taps in the border are left out.
pub(super) fn conv_images(
    ohwi: &[f32],
    images: &ImagesGeometry,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let g = &images.image;
    let filters = ohwi.chunks_exact(g.weight_shape().fan_in().max(1));
    for image in 0..images.images {
        let input = &input[image * images.in_image_stride..];
        for (row, column) in (0..g.out_h).flat_map(|row| (0..g.out_w).map(move |c| (row, c))) {
            let pixel = image * images.out_image_stride
                + row * g.out_row_stride
                + column * g.out_pixel_stride;
            for (c, filter) in filters.clone().enumerate() {
                let mut acc = 0.0f32;
                for (tap, weights) in filter.chunks_exact(g.in_channels).enumerate() {
                    let (kh, kw) = (tap / g.kernel_w, tap % g.kernel_w);
                    let [y, x] = [row * g.stride + kh, column * g.stride + kw];
                    if images.is_inside([y, x]) {
                        let at = y * g.in_row_stride + x * g.in_pixel_stride;
                        for (&x, &w) in input[at..].iter().zip(weights) {
                            acc = x.mul_add(w, acc);
                        }
                    }
                }
                out[pixel + c] = epilogue.apply(acc, c);
            }
        }
    }
}

/// The gradients of the weights of one image after the other, from zero; pixels in the border are left out.
pub(super) fn conv_images_grad_weights(
    images: &ImagesGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let g = &images.image;
    let of_taps = grad_weights.chunks_exact_mut(g.out_channels.max(1));
    for (tap, into) in of_taps.enumerate() {
        let (position, channel) = (tap / g.in_channels, tap % g.in_channels);
        let (kh, kw) = (position / g.kernel_w, position % g.kernel_w);
        into.fill(0.0);
        for image in 0..images.images {
            let input = &input[image * images.in_image_stride..];
            let grad_out = &grad_out[image * images.out_image_stride..];
            for (row, column) in (0..g.out_h).flat_map(|row| (0..g.out_w).map(move |c| (row, c))) {
                let [y, x] = [row * g.stride + kh, column * g.stride + kw];
                if !images.is_inside([y, x]) {
                    continue;
                }
                let x = input[y * g.in_row_stride + x * g.in_pixel_stride + channel];
                let grad = &grad_out[row * g.out_row_stride + column * g.out_pixel_stride..];
                for (sum, &dy) in into.iter_mut().zip(grad) {
                    *sum = x.mul_add(dy, *sum);
                }
            }
        }
    }
}
