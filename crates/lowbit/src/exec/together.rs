//! Convolutions with few pixels over several images at once: each register tile is the same pixel of neighboring images.

use super::kernel::Call;
use crate::lower::{ConvView, Layout};
use lowbit_kernels::ImagesGeometry;

/// Most pixels of a map whose images are taken together.
const MOST_PIXELS: usize = 64;

/// Fewest images that fill tiles well enough.
const FEWEST_IMAGES: usize = 4;

/// A convolution that can run over several images at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together {
    /// Of no image yet, and of one group.
    geometry: ImagesGeometry,
    groups: usize,
    /// Where the first image's view begins.
    first: usize,
}

impl Together {
    /// The form of a convolution without dilation or pooling whose result has few pixels.
    pub(super) fn new(view: &ConvView, input: &Layout, output: &Layout) -> Option<Self> {
        let (image, groups) = view.even_groups()?;
        let few = output.h * output.w <= MOST_PIXELS;
        (few && image.pool == 1).then_some(Self {
            geometry: ImagesGeometry {
                image,
                images: 0,
                in_image_stride: input.image_len,
                out_image_stride: output.image_len,
                border: view.padding(),
                size: [input.h, input.w],
            },
            groups,
            first: view.first(),
        })
    }

    /// The geometry of a call; none where it has too few images, or not all of their pixels.
    pub(super) fn of(&self, call: &Call<'_>) -> Option<ImagesGeometry> {
        let g = &self.geometry.image;
        let all = call.rows.len() == g.out_h && call.columns.len() == g.out_w;
        (all && call.images >= FEWEST_IMAGES).then_some(ImagesGeometry {
            images: call.images,
            ..self.geometry
        })
    }

    /// The geometry, whatever the number of images.
    pub(super) fn geometry(&self) -> &ImagesGeometry {
        &self.geometry
    }

    /// Groups of channels, each with its weights.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// What the kernels see of the first image's input for a group, and all behind it.
    pub(super) fn view<'a, T>(&self, input: &'a [T], group: usize) -> &'a [T] {
        &input[self.first + group * self.geometry.image.in_channels..]
    }
}
