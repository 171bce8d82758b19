//! The scalar twin: defines what every other kernel must produce.

use super::codes::Codes;
use crate::ConvGeometry;
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
