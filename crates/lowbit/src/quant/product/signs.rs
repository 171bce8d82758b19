//! Activations of one bit, as the kernels of signs read them.

use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, bits};
use std::ops::Range;

/// The rows of `view` that output rows `rows` need, as signs, and the geometry that reads them from their first row on.
pub(super) fn as_signs(
    isa: Isa,
    geometry: &ConvGeometry,
    rows: &Range<usize>,
    view: &[u8],
) -> (AlignedBuffer<u32>, ConvGeometry) {
    let g = geometry;
    let first = rows.start * g.pool * g.stride;
    let out_h = rows.len() * g.pool;
    let in_h = (out_h.max(1) - 1) * g.stride + g.kernel_h;
    let in_w = (g.out_w.max(1) - 1) * g.stride + g.kernel_w;
    let words = bits::words(g.in_channels);
    let mut signs = AlignedBuffer::zeroed(in_h * in_w * words);
    for (row, signs) in signs.chunks_exact_mut(in_w * words).enumerate() {
        let start = (first + row) * g.in_row_stride;
        if g.in_pixel_stride == g.in_channels {
            let pixels = &view[start..][..in_w * g.in_channels];
            bits::pack_signs(isa, pixels, g.in_channels, 1, signs);
            continue;
        }
        for (pixel, signs) in signs.chunks_exact_mut(words).enumerate() {
            let channels = &view[start + pixel * g.in_pixel_stride..][..g.in_channels];
            bits::pack_signs(isa, channels, g.in_channels, 1, signs);
        }
    }
    let geometry = ConvGeometry {
        in_channels: words,
        in_pixel_stride: words,
        in_row_stride: in_w * words,
        out_h,
        ..*g
    };
    (signs, geometry)
}
