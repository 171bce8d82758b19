//! The scalar twin: defines what every other kernel must produce.

use crate::ConvGeometry;
use std::ops::Range;

/// The signs of up to 32 values.
pub(super) fn signs(values: &[u8], threshold: u8) -> u32 {
    let bit = |(c, &x): (usize, &u8)| u32::from(x < threshold) << c;
    values.iter().enumerate().map(bit).sum()
}

pub(super) fn conv<T>(
    weights: &[u32],
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u32],
    start: impl Fn(usize) -> i32,
    out: &mut [T],
    store: impl Fn(i32, usize) -> T,
) {
    let fan_in = g.kernel_h * g.kernel_w * g.in_channels;
    for row in rows.clone() {
        for column in 0..g.pooled_w() {
            let pixel = (row - rows.start) * g.out_row_stride + column * g.out_pixel_stride;
            for c in 0..g.out_channels {
                let filter = &weights[c * fan_in..][..fan_in];
                let mut best = i32::MIN;
                for dy in 0..g.pool {
                    for dx in 0..g.pool {
                        let top = (row * g.pool + dy) * g.stride;
                        let left = (column * g.pool + dx) * g.stride;
                        let view = &input[top * g.in_row_stride + left * g.in_pixel_stride..];
                        let differing = differing_bits(g, view, filter);
                        best = best.max(start(c).wrapping_sub(2 * differing as i32));
                    }
                }
                out[pixel + c] = store(best, c);
            }
        }
    }
}

fn differing_bits(g: &ConvGeometry, view: &[u32], filter: &[u32]) -> u32 {
    let mut count = 0;
    for kh in 0..g.kernel_h {
        for kw in 0..g.kernel_w {
            let pixel = &view[kh * g.in_row_stride + kw * g.in_pixel_stride..][..g.in_channels];
            let taps = &filter[(kh * g.kernel_w + kw) * g.in_channels..][..g.in_channels];
            for (x, w) in pixel.iter().zip(taps) {
                count += (x ^ w).count_ones();
            }
        }
    }
    count
}
