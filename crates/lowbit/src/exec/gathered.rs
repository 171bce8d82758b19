//! Convolutions with few pixels as products over gathered taps: what each pixel sees is brought side by side, for several
//! images at once, so that register tiles are full and weights are read once for all of them.

use super::scratch::{Scratch, put_rows};
use crate::lower::{ConvView, Layout};
use crate::ops::Conv;
use lowbit_kernels::ConvGeometry;
use lowbit_kernels::geometry::SLACK;
use std::ops::Range;

/// Most pixels of a map that is worth it: of more, rows fill tiles and weights are read often enough.
const MOST_PIXELS: usize = 16;

/// Fewest output channels for which gathering is small beside the product.
const ENOUGH_CHANNELS: usize = 32;

/// Pixels that are gathered at a time, if one image does not have more.
const PIXELS: usize = 64;

/// A convolution whose taps are gathered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    input: Layout,
    output: Layout,
    conv: Conv,
    /// Where the first pixel's taps begin.
    first: usize,
}

impl Gathered {
    /// The form of a convolution without groups or pooling whose result has few pixels of many channels.
    pub(super) fn new(
        view: &ConvView,
        conv: &Conv,
        input: &Layout,
        output: &Layout,
    ) -> Option<Self> {
        let few = output.h * output.w <= MOST_PIXELS && output.c >= ENOUGH_CHANNELS;
        (few && view.is_single()).then_some(Self {
            input: *input,
            output: *output,
            conv: *conv,
            first: view.first(),
        })
    }

    /// Numbers that each pixel sees.
    fn taps(&self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1] * self.input.c
    }

    /// Of gathered pixels: kernel rows follow each other, and a pixel is so many steps of a channel's neighbors from the next.
    fn geometry(&self, pixels: usize) -> ConvGeometry {
        let ([kernel_h, kernel_w], c) = (self.conv.kernel, self.input.c);
        ConvGeometry {
            kernel_h,
            kernel_w,
            stride: kernel_h * kernel_w,
            in_row_stride: kernel_w * c,
            in_pixel_stride: c,
            in_channels: c,
            ..ConvGeometry::linear(pixels, self.taps(), self.output.c)
        }
    }

    /// Computes a rectangle of each image; `out` begins at the first image's rectangle.
    pub(super) fn run<E: Scratch, T: Scratch>(
        &self,
        images: usize,
        [rows, columns]: [Range<usize>; 2],
        input: &[E],
        out: &mut [T],
        product: impl Fn(&ConvGeometry, &[E], &mut [T]),
    ) {
        let (taps, channels) = (self.taps(), self.output.c);
        let pixels = rows.len() * columns.len();
        if pixels == 0 {
            return;
        }
        let at_a_time = (PIXELS / pixels).max(1);
        for first in (0..images).step_by(at_a_time) {
            let count = at_a_time.min(images - first);
            let geometry = self.geometry(count * pixels);
            E::with(count * pixels * taps + SLACK, |gathered| {
                let mut to = gathered.chunks_exact_mut(taps);
                for image in first..first + count {
                    let image = &input[image * self.input.image_len + self.first..];
                    for (row, column) in rows
                        .clone()
                        .flat_map(|r| columns.clone().map(move |c| (r, c)))
                    {
                        let to = to.next().expect("a place for each pixel");
                        self.gather(image, row, column, to);
                    }
                }
                T::with(count * pixels * channels, |dense| {
                    product(&geometry, gathered, dense);
                    let out = &mut out[first * self.output.image_len..];
                    put_rows(&self.output, dense, (count, rows.len(), columns.len()), out);
                });
            });
        }
    }

    fn gather<E: Copy>(&self, image: &[E], row: usize, column: usize, to: &mut [E]) {
        let Conv {
            kernel,
            stride,
            dilation,
            ..
        } = self.conv;
        let c = self.input.c;
        let from = row * stride[0] * self.input.row_stride + column * stride[1] * c;
        let runs = match dilation[1] {
            1 => (1, kernel[1] * c),
            _ => (kernel[1], c),
        };
        let mut to = to.chunks_exact_mut(runs.1);
        for kernel_row in 0..kernel[0] {
            let from = from + kernel_row * dilation[0] * self.input.row_stride;
            for run in 0..runs.0 {
                let from = from + run * dilation[1] * c;
                let to = to.next().expect("a place for each run of taps");
                to.copy_from_slice(&image[from..][..runs.1]);
            }
        }
    }
}
