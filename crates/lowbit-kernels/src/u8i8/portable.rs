//! The scalar twin: defines what every other kernel must produce.

use crate::ConvGeometry;
use std::ops::Range;

pub(crate) fn conv<T>(
    ohwi: &[i8],
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    out: &mut [T],
    store: impl Fn(i32, usize) -> T,
) {
    let run = g.kernel_w * g.in_channels;
    for row in rows.clone() {
        for column in 0..g.pooled_w() {
            let pixel = (row - rows.start) * g.out_row_stride + column * g.out_pixel_stride;
            for c in 0..g.out_channels {
                let filter = &ohwi[c * g.kernel_h * run..][..g.kernel_h * run];
                let mut best = i32::MIN;
                for dy in 0..g.pool {
                    for dx in 0..g.pool {
                        let top = (row * g.pool + dy) * g.stride;
                        let left = (column * g.pool + dx) * g.stride;
                        let mut acc = acc_offset[c];
                        for kh in 0..g.kernel_h {
                            for kw in 0..g.kernel_w {
                                let at =
                                    (top + kh) * g.in_row_stride + (left + kw) * g.in_pixel_stride;
                                let taps = &filter[(kh * g.kernel_w + kw) * g.in_channels..]
                                    [..g.in_channels];
                                for (&x, &w) in input[at..][..g.in_channels].iter().zip(taps) {
                                    acc = acc.wrapping_add(i32::from(x) * i32::from(w));
                                }
                            }
                        }
                        best = best.max(acc);
                    }
                }
                out[pixel + c] = store(best, c);
            }
        }
    }
}
