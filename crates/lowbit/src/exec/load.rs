//! Bringing an image's pixels into the layout of the first value.

use crate::graph::Pixels;
use crate::lower::Layout;
use lowbit_kernels::{Isa, elementwise};

/// How pixels become the first value.
pub(super) struct Loader {
    pub(super) isa: Isa,
    pub(super) pixels: Pixels,
}

impl Loader {
    /// Rows of an image as real numbers, the first pixel to `out[0]`.
    pub(super) fn f32(&self, layout: &Layout, rows: &[u8], out: &mut [f32]) {
        let row_len = layout.row_len();
        for (row, pixels) in rows.chunks_exact(row_len).enumerate() {
            let out = &mut out[row * layout.row_stride..][..row_len];
            if let [(scale, shift)] = self.pixels.maps[..] {
                elementwise::scale_u8(self.isa, pixels, scale, shift, out);
                continue;
            }
            let channels = self.pixels.maps.iter().cycle();
            for ((real, &x), &(scale, shift)) in out.iter_mut().zip(pixels).zip(channels) {
                *real = f32::from(x).mul_add(scale, shift);
            }
        }
    }

    /// Rows of an image as the integers that stand for them.
    pub(super) fn u8(&self, layout: &Layout, rows: &[u8], out: &mut [u8]) {
        let row_len = layout.row_len();
        for (row, pixels) in rows.chunks_exact(row_len).enumerate() {
            self.pixels
                .write_integers(pixels, &mut out[row * layout.row_stride..][..row_len]);
        }
    }
}
