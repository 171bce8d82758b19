//! Convolutions with few pixels as products over gathered taps: what each pixel sees is brought side by side, for several
//! images at once, so that register tiles are full and weights are read once for all of them.

use super::scratch::{Scratch, put_rows};
use crate::lower::{ConvView, Layout};
use crate::ops::Conv;
use crate::pool::share;
use lowbit_kernels::ConvGeometry;
use lowbit_kernels::geometry::SLACK;
use lowbit_kernels::team::Team;
use std::ops::Range;

/// Most pixels of a map that is worth it: of more, rows fill tiles and weights are read often enough.
const MOST_PIXELS: usize = 16;

/// Fewest output channels for which gathering is small beside the product.
const ENOUGH_CHANNELS: usize = 32;

/// Pixels that are gathered at a time, if one image does not have more.
const PIXELS: usize = 64;

/// Output channels of a part of the weights: whole panels on every ISA.
const PART: usize = 32;

/// Weights from which on they are packed in parts, so that threads can share them: 256 KiB, which take longer to read than a thread
/// to wake.
const LARGE: usize = 1 << 16;

/// The geometry of one of some equal parts of the output channels, and where its results begin.
pub(super) fn part_of(geometry: &ConvGeometry, part: usize, parts: usize) -> (ConvGeometry, usize) {
    let out_channels = geometry.out_channels / parts;
    let geometry = ConvGeometry {
        out_channels,
        ..*geometry
    };
    (geometry, part * out_channels)
}

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

    /// How many parts of output channels the weights are packed in.
    pub(super) fn parts(&self) -> usize {
        let channels = self.output.c;
        match channels.is_multiple_of(PART) && channels * self.taps() >= LARGE {
            true => channels / PART,
            false => 1,
        }
    }

    /// Output channels of a part.
    fn part_channels(&self) -> usize {
        self.output.c / self.parts()
    }

    /// Computes a rectangle of each image; `out` begins at the first image's rectangle. `product` computes a part of the channels,
    /// from its first one on.
    pub(super) fn run<E: Scratch, T: Scratch>(
        &self,
        images: usize,
        [rows, columns]: [Range<usize>; 2],
        input: &[E],
        out: &mut [T],
        product: impl Fn(usize, &ConvGeometry, &[E], &mut [T]),
    ) {
        let (taps, channels) = (self.taps(), self.output.c);
        let pixels = rows.len() * columns.len();
        if pixels == 0 {
            return;
        }
        let (parts, of_part) = (self.parts(), self.part_channels());
        let at_a_time = (PIXELS / pixels).max(1);
        for first in (0..images).step_by(at_a_time) {
            let count = at_a_time.min(images - first);
            let geometry = ConvGeometry {
                out_channels: of_part,
                ..self.geometry(count * pixels)
            };
            E::with(count * pixels * taps + SLACK, |gathered| {
                let rectangle = [rows.clone(), columns.clone()];
                self.gather_all(first..first + count, rectangle, input, gathered);
                T::with(count * pixels * channels, |dense| {
                    for part in 0..parts {
                        product(part, &geometry, gathered, &mut dense[part * of_part..]);
                    }
                    let out = &mut out[first * self.output.image_len..];
                    put_rows(&self.output, dense, (count, rows.len(), columns.len()), out);
                });
            });
        }
    }

    /// Computes one image, its channels over a team: each thread reads weights of its own.
    pub(super) fn run_shared<E: Scratch + Sync, T: Scratch + Send>(
        &self,
        team: &Team,
        input: &[E],
        out: &mut [T],
        product: impl Fn(usize, &ConvGeometry, &[E], &mut [T]) + Sync,
    ) {
        let (taps, layout) = (self.taps(), &self.output);
        let (pixels, of_part) = (layout.h * layout.w, self.part_channels());
        let geometry = ConvGeometry {
            out_channels: of_part,
            out_pixel_stride: of_part,
            ..self.geometry(pixels)
        };
        // As many as threads, so that each of them finds the weights of the last image in its cache.
        let parts = self.parts().div_ceil(team.threads());
        E::with(pixels * taps + SLACK, |gathered| {
            self.gather_all(0..1, [0..layout.h, 0..layout.w], input, gathered);
            let gathered = &*gathered;
            T::with(pixels * layout.c, |dense| {
                let shares = dense.chunks_mut(parts * pixels * of_part);
                share(team, shares.enumerate().collect(), |(share, out)| {
                    for (number, out) in out.chunks_mut(pixels * of_part).enumerate() {
                        product(share * parts + number, &geometry, gathered, out);
                    }
                });
                for (part, dense) in dense.chunks_exact(pixels * of_part).enumerate() {
                    for (pixel, channels) in dense.chunks_exact(of_part).enumerate() {
                        let at = layout.pixel(pixel) + part * of_part;
                        out[at..][..of_part].copy_from_slice(channels);
                    }
                }
            });
        });
    }

    /// Brings the taps of a rectangle's pixels, of each image, side by side.
    fn gather_all<E: Copy>(
        &self,
        images: Range<usize>,
        [rows, columns]: [Range<usize>; 2],
        input: &[E],
        gathered: &mut [E],
    ) {
        let mut to = gathered.chunks_exact_mut(self.taps());
        for image in images {
            let image = &input[image * self.input.image_len + self.first..];
            for row in rows.clone() {
                for column in columns.clone() {
                    let to = to.next().expect("a place for each pixel");
                    self.gather(image, row, column, to);
                }
            }
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
