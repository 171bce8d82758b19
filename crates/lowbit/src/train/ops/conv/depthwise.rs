//! The products of a depthwise convolution, forwards and backwards.

use crate::graph::{Conv, Step};
use crate::lower::ConvView;
use lowbit_kernels::depthwise::{self, DepthwiseGeometry, FloatWeights, PaddedImage};
use lowbit_kernels::{Isa, conv_f32};

pub(super) struct Depthwise {
    /// From the input value to the dense map, and where the first pixel's view begins.
    geometry: DepthwiseGeometry,
    first: usize,
    /// Rows and columns of the map.
    extents: [usize; 2],
    image: PaddedImage,
    /// Whether the input needs a gradient: the image does not.
    pub(super) is_needed: bool,
    isa: Isa,
    packed: FloatWeights,
    /// The weights that gradients go back through, `[kernel_h, kernel_w, channels]`.
    by_taps: Vec<f32>,
}

impl Depthwise {
    /// Of a step whose convolution is one.
    pub(super) fn new(view: &ConvView, (step, conv): (&Step, &Conv), isa: Isa) -> Option<Self> {
        let (geometry, first) = view.depthwise()?;
        let (map, input) = (step.main_shape, step.in_shapes[0]);
        let channels = geometry.channels;
        let zeros = vec![0.0; channels * geometry.kernel[0] * geometry.kernel[1]];
        Some(Self {
            geometry,
            first,
            extents: [map.h(), map.w()],
            image: PaddedImage {
                size: [input.h(), input.w()],
                padding: [conv.padding[0], conv.padding[1]],
            },
            is_needed: step.inputs[0] != 0,
            isa,
            packed: FloatWeights::pack(isa, &zeros, channels, geometry.kernel),
            by_taps: zeros,
        })
    }

    pub(super) fn geometry(&self) -> &DepthwiseGeometry {
        &self.geometry
    }

    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn pack(&mut self, weights: &[f32]) {
        let DepthwiseGeometry {
            channels, kernel, ..
        } = self.geometry;
        self.packed = FloatWeights::pack(self.isa, weights, channels, kernel);
    }

    pub(super) fn pack_backward(&mut self, weights: &[f32]) {
        let channels = self.geometry.channels;
        for (channel, filter) in weights.chunks_exact(weights.len() / channels).enumerate() {
            for (tap, &weight) in filter.iter().enumerate() {
                self.by_taps[tap * channels + channel] = weight;
            }
        }
    }

    /// The map of one image, whose view begins with `view`.
    pub(super) fn run(&self, view: &[f32], bias: Option<&[f32]>, map: &mut [f32]) {
        let rectangle = self.extents.map(|extent| 0..extent);
        let epilogue = conv_f32::Epilogue {
            bias,
            ..Default::default()
        };
        depthwise::conv_f32(
            &self.packed,
            &self.geometry,
            rectangle,
            view,
            &epilogue,
            map,
        );
    }

    /// Adds to the gradient of the weights, HWIO.
    pub(super) fn grad_weights(&self, view: &[f32], grad_map: &[f32], grad: &mut [f32]) {
        let (geometry, extents) = (&self.geometry, self.extents);
        depthwise::grad_weights(self.isa, geometry, extents, view, grad_map, grad);
    }

    /// Adds to the gradient of the input, dense.
    pub(super) fn grad_input(&self, grad_map: &[f32], grad: &mut [f32]) {
        let (geometry, extents, image) = (&self.geometry, self.extents, self.image);
        depthwise::grad_input(
            self.isa,
            geometry,
            extents,
            &self.by_taps,
            grad_map,
            image,
            grad,
        );
    }
}
