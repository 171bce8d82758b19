//! 3×3 convolutions in f32 whose maps and channels are large enough for fewer products to pay.

use super::scratch::Scratch;
use crate::lower::{ConvView, Layout};
use lowbit_kernels::ConvGeometry;
use lowbit_kernels::conv_f32::Epilogue;
use lowbit_kernels::conv_f32::winograd::{Images, WinogradWeights, conv};
use std::ops::Range;

/// Fewest pixels of a map before pooling: of fewer, an image has not enough tiles, and direct sums leave more of the padding out.
const FEWEST_PIXELS: usize = 64;

/// Fewest input and output channels: of fewer, transforms take what products save.
const FEWEST_CHANNELS: usize = 32;

/// A convolution in tiles of 2×2 results. Which form a layer has depends on its shape alone, so that its bits do not depend on the
/// number of images or threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Winograd {
    geometry: ConvGeometry,
    /// Where the first image's view begins.
    first: usize,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

impl Winograd {
    /// The form of a convolution of one group, without steps or dilation, with a 3×3 kernel.
    pub(super) fn new(view: &ConvView, input: &Layout, output: &Layout) -> Option<Self> {
        let (geometry, 1) = view.even_groups()? else {
            return None;
        };
        let winograd = Self::of_images(geometry, [input.image_len, output.image_len])?;
        Some(Self {
            first: view.first(),
            ..winograd
        })
    }

    /// The same of a product whose first image's view begins with the input that [`Self::run`] is given; images lie so many elements
    /// behind one another, of input and output.
    pub(crate) fn of_images(geometry: ConvGeometry, image_len: [usize; 2]) -> Option<Self> {
        let pixels = geometry.out_h * geometry.out_w;
        let channels = geometry.in_channels.min(geometry.out_channels);
        let pays = pixels >= FEWEST_PIXELS && channels >= FEWEST_CHANNELS;
        let suits = WinogradWeights::suits(geometry.weight_shape());
        (geometry.stride == 1 && pays && suits).then_some(Self {
            geometry,
            first: 0,
            image_len,
        })
    }

    /// Rows of the (pooled) result that a tile has.
    pub(super) fn tile_rows(&self) -> usize {
        2 / self.geometry.pool
    }

    /// Computes a rectangle of each image; `out` begins at the first image's rectangle.
    pub(crate) fn run(
        &self,
        weights: &WinogradWeights,
        count: usize,
        rectangle: [Range<usize>; 2],
        input: &[f32],
        epilogue: &Epilogue<'_>,
        out: &mut [f32],
    ) {
        let [in_stride, out_stride] = self.image_len;
        let images = Images {
            count,
            in_stride,
            out_stride,
        };
        let view = &input[self.first..];
        f32::with(weights.scratch_len(), |scratch| {
            let from = (view, scratch);
            conv(
                weights,
                &self.geometry,
                images,
                rectangle,
                from,
                epilogue,
                out,
            );
        });
    }
}
