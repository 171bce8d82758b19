//! Where the values of a graph live while it runs.
//!
//! The leading blocks, whose values are images, run image by image, so that their buffers stay in cache; from the first
//! block on whose values are all vectors, blocks run over a chunk of images at once, so that weights are read once.

use super::RuntimeError;
use crate::graph::{Block, BlockKind, Blocks, ValueId};
use lowbit_kernels::ConvGeometry;
use std::ops::Range;

/// Layout of one value: `[images, h + 2·halo, w + 2·halo, c]`, the halo holding whatever stands for zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) halo: usize,
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
    /// Elements from one image to the next.
    pub(crate) image_len: usize,
    /// Whether a chunk of images is kept, not one image.
    pub(crate) chunked: bool,
}

impl Layout {
    /// Offset of the pixel `border` pixels outside of the image's first pixel.
    pub(crate) fn offset(&self, border: usize) -> usize {
        (self.halo - border) * (self.row_stride + self.c)
    }

    /// Offset of a pixel, counted in row order without the halo, from the image's first pixel.
    pub(crate) fn pixel(&self, number: usize) -> usize {
        number / self.w * self.row_stride + number % self.w * self.c
    }

    /// Elements of one image without halo.
    pub(crate) fn dense_len(&self) -> usize {
        self.h * self.w * self.c
    }
}

/// The layouts of all values, and where the chunked part begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) blocks: Blocks,
    pub(crate) layouts: Vec<Layout>,
    /// Index of the first block that runs over a chunk at once.
    pub(crate) split: usize,
}

impl Plan {
    pub(crate) fn new(blocks: Blocks) -> Result<Self, RuntimeError> {
        let list = blocks.list();
        let is_vector = |block: &Block| {
            let shape = block.out_shape;
            let reads_vectors = block.inputs.iter().all(|&value| {
                let shape = blocks.value_shape(value);
                shape.h * shape.w == 1
            });
            shape.h * shape.w == 1 && (reads_vectors || block.kind == BlockKind::Linear)
        };
        let split = list
            .iter()
            .rposition(|block| !is_vector(block))
            .map_or(0, |last| last + 1);
        let mut layouts = Vec::with_capacity(blocks.values());
        for value in 0..blocks.values() {
            let shape = blocks.value_shape(value);
            let halo = blocks.halo(value);
            let row_stride = (shape.w + 2 * halo) * shape.c;
            let read_late = list
                .iter()
                .enumerate()
                .any(|(i, b)| i >= split && b.inputs.contains(&value));
            layouts.push(Layout {
                h: shape.h,
                w: shape.w,
                c: shape.c,
                halo,
                row_stride,
                image_len: (shape.h + 2 * halo) * row_stride,
                chunked: value > split || read_late,
            });
            let linear = list
                .iter()
                .find(|block| block.kind == BlockKind::Linear && block.inputs.contains(&value));
            if let (Some(block), true) = (linear, halo > 0) {
                return Err(RuntimeError::Unsupported {
                    layer: block.name.clone(),
                    reason: "its input is also read by a padded convolution".into(),
                });
            }
        }
        Ok(Self {
            blocks,
            layouts,
            split,
        })
    }

    /// Layout of a block's result.
    pub(crate) fn output(&self, block: usize) -> &Layout {
        &self.layouts[block + 1]
    }

    /// Elements that a buffer for `value` needs when chunks have `chunk` images.
    pub(crate) fn buffer_len(&self, value: ValueId, chunk: usize) -> usize {
        let layout = &self.layouts[value];
        layout.image_len * if layout.chunked { chunk } else { 1 }
    }

    /// Geometry of a convolution block, reading and writing values in their layouts.
    pub(crate) fn conv(&self, index: usize) -> ConvGeometry {
        let block = &self.blocks.list()[index];
        let BlockKind::Conv { kernel, stride, .. } = block.kind else {
            unreachable!("only convolution blocks have a convolution's geometry")
        };
        let input = &self.layouts[block.inputs[0]];
        let output = self.output(index);
        ConvGeometry {
            kernel_h: kernel,
            kernel_w: kernel,
            stride,
            in_channels: input.c,
            out_channels: output.c,
            in_row_stride: input.row_stride,
            in_pixel_stride: input.c,
            out_h: block.conv_shape.h,
            out_w: block.conv_shape.w,
            pool: block.pool,
            out_row_stride: output.row_stride,
            out_pixel_stride: output.c,
        }
    }

    /// Geometry of a range of a convolution block's columns (after pooling), and where its input view begins.
    pub(crate) fn conv_columns(
        &self,
        index: usize,
        columns: &Range<usize>,
    ) -> (ConvGeometry, usize) {
        let whole = self.conv(index);
        let geometry = ConvGeometry {
            out_w: if columns.len() == whole.pooled_w() {
                whole.out_w
            } else {
                columns.len() * whole.pool
            },
            ..whole
        };
        let start = columns.start * whole.pool * whole.stride * whole.in_pixel_stride;
        (geometry, start)
    }

    /// Geometry of a linear block over `images` rows of a chunk.
    pub(crate) fn linear(&self, index: usize, images: usize) -> ConvGeometry {
        let block = &self.blocks.list()[index];
        let input = &self.layouts[block.inputs[0]];
        let output = self.output(index);
        ConvGeometry {
            in_pixel_stride: input.image_len,
            out_pixel_stride: output.image_len,
            ..ConvGeometry::linear(images, input.dense_len(), output.c)
        }
    }
}
