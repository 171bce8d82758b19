//! Convolutions of 1×1 as products over pixels, whatever rows and images these belong to: register tiles are full where rows
//! are short, and weights are read once for many images.

use super::scratch::{Scratch, put_rows};
use crate::lower::{ConvView, Layout};
use lowbit_kernels::ConvGeometry;
use std::ops::Range;

/// Columns of a map with a halo from which on its rows fill tiles well enough by themselves.
const LONG_ROW: usize = 12;

/// A convolution of 1×1 whose input's pixels follow each other without gaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointwise {
    in_channels: usize,
    output: Layout,
}

impl Pointwise {
    /// The form of a convolution of 1×1; none where it has a stride, groups or a pool, where the input has a halo, or the
    /// output has one and rows are long.
    pub(super) fn new(view: &ConvView, input: &Layout, output: &Layout) -> Option<Self> {
        let pays = output.is_dense() || output.w < LONG_ROW;
        (view.is_pointwise() && input.is_dense() && pays).then_some(Self {
            in_channels: input.c,
            output: *output,
        })
    }

    /// Elements of the input before row `row` of its image.
    pub(super) fn input_row(&self, row: usize) -> usize {
        row * self.output.w * self.in_channels
    }

    /// Computes whole rows of one image, or all rows of several, into `out`, which begins at the first pixel to compute.
    pub(super) fn run<T: Scratch>(
        &self,
        images: usize,
        rows: Range<usize>,
        out: &mut [T],
        product: impl FnOnce(&ConvGeometry, &mut [T]),
    ) {
        let layout = &self.output;
        let pixels = images * rows.len() * layout.w;
        let geometry = ConvGeometry::linear(pixels, self.in_channels, layout.c);
        if layout.is_dense() {
            return product(&geometry, out);
        }
        T::with(pixels * layout.c, |dense| {
            product(&geometry, dense);
            put_rows(layout, dense, (images, rows.len(), layout.w), out);
        });
    }
}
