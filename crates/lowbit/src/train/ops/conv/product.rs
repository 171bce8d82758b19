//! The products of a convolution, forwards and backwards: one of matrices, or a filter for each channel.

use super::backward::Backward;
use super::depthwise::Depthwise;
use crate::graph::{Conv, Step};
use crate::lower::Plan;
use crate::quant::InputParams;
use crate::train::SLICE;
use crate::train::qat::{IntegerDepthwise, IntegerProduct, WeightState};
use lowbit_kernels::batch_norm::MapShape;
use lowbit_kernels::depthwise::DepthwiseGeometry;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, conv_f32};

/// In f32.
pub(super) enum FloatProduct {
    Matrix(Box<Matrix>),
    Depthwise(Box<Depthwise>),
}

pub(super) struct Matrix {
    shape: WeightShape,
    /// From the input value to the dense map, and where the first pixel's view begins.
    forward: ConvGeometry,
    view_start: usize,
    /// Pixels of an image, where each pixel of the map is a product of one of the input alone and images lie behind one another:
    /// then those of a slice are one product, and weights are read once for all.
    pixels: Option<usize>,
    packed: conv_f32::PackedWeights,
    backward: Backward,
    isa: Isa,
}

/// What an integer product is made for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Matrix(ConvGeometry, Option<usize>, WeightShape),
    Depthwise(DepthwiseGeometry),
}

/// In integers, with f32 results.
pub(super) enum IntegerForm {
    Matrix(ConvGeometry, Option<usize>, IntegerProduct),
    Depthwise(DepthwiseGeometry, IntegerDepthwise),
}

/// How the gradient of a map lies in its scratch.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    /// Of the map's first pixel.
    pub(super) offset: usize,
    pub(super) row_stride: usize,
    pub(super) len: usize,
}

/// Pixels of an image up to which those of a slice are one product. With more of them weights are no burden, and sums over all
/// of them in f32 would lose digits.
const FEW_PIXELS: usize = 256;

/// The product of so many images.
fn of_images(geometry: &ConvGeometry, pixels: Option<usize>, images: usize) -> ConvGeometry {
    let features = [geometry.in_channels, geometry.out_channels];
    pixels.map_or(*geometry, |pixels| {
        ConvGeometry::linear(images * pixels, features[0], features[1])
    })
}

impl FloatProduct {
    pub(super) fn new(plan: &Plan, index: usize, (step, conv): (&Step, &Conv), isa: Isa) -> Self {
        if let Some(depthwise) = Depthwise::new(plan, index, (step, conv), isa) {
            return Self::Depthwise(Box::new(depthwise));
        }
        let map = step.main_shape;
        let whole = plan.conv(index).plain();
        let is_pointwise = conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.padding == [0; 4];
        let shape = step.weight_shape().expect("convolutions have weights");
        Self::Matrix(Box::new(Matrix {
            shape,
            forward: ConvGeometry {
                pool: 1,
                out_row_stride: map.w() * map.c(),
                out_pixel_stride: map.c(),
                ..whole.expect("only plain and depthwise convolutions are trained")
            },
            view_start: plan
                .input(index, 0)
                .border(conv.padding[0], conv.padding[1]),
            pixels: Some(map.h() * map.w()).filter(|&pixels| {
                is_pointwise && pixels <= FEW_PIXELS && plan.input(index, 0).is_dense()
            }),
            packed: conv_f32::PackedWeights::pack(isa, &vec![0.0; shape.len()], shape),
            backward: Backward::new(step, conv, isa),
            isa,
        }))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Matrix(matrix) => Kind::Matrix(matrix.forward, matrix.pixels, matrix.shape),
            Self::Depthwise(depthwise) => Kind::Depthwise(*depthwise.geometry()),
        }
    }

    /// How many images of a slice one call takes.
    pub(super) fn images_at_once(&self) -> usize {
        match self {
            Self::Matrix(matrix) if matrix.pixels.is_some() => SLICE,
            Self::Matrix(_) | Self::Depthwise(_) => 1,
        }
    }

    /// Where an image's view of its input begins.
    pub(super) fn view_start(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.view_start,
            Self::Depthwise(depthwise) => depthwise.first(),
        }
    }

    pub(super) fn scratch(&self, map: &MapShape) -> Scratch {
        match self {
            Self::Matrix(matrix) => Scratch {
                offset: matrix.backward.offset,
                row_stride: matrix.backward.row_stride,
                len: self.images_at_once() * matrix.backward.scratch_len,
            },
            Self::Depthwise(_) => Scratch {
                offset: 0,
                row_stride: map.w * map.c,
                len: map.len(),
            },
        }
    }

    /// Elements of room for a gradient of the input that is added to another's.
    pub(super) fn own_len(&self, input: usize) -> usize {
        match self {
            Self::Matrix(matrix) if matrix.backward.is_needed() => self.images_at_once() * input,
            _ => 0,
        }
    }

    /// Brings weights (OHWI) into the order of the forward pass.
    pub(super) fn pack(&mut self, weights: &[f32]) {
        match self {
            Self::Matrix(matrix) => matrix.packed.repack(weights),
            Self::Depthwise(depthwise) => depthwise.pack(weights),
        }
    }

    /// Brings weights (OHWI) into the order of the backward pass.
    pub(super) fn pack_backward(&mut self, weights: &[f32]) {
        match self {
            Self::Matrix(matrix) => {
                let (shape, stride) = (matrix.shape, matrix.forward.stride);
                matrix.backward.pack(weights, shape, stride);
            }
            Self::Depthwise(depthwise) => depthwise.pack_backward(weights),
        }
    }

    /// The maps of `images` images, without a bias where `bias` is none.
    pub(super) fn run(&self, images: usize, view: &[f32], bias: Option<&[f32]>, map: &mut [f32]) {
        let epilogue = conv_f32::Epilogue {
            bias,
            relu: false,
            ceiling: None,
        };
        match self {
            Self::Matrix(matrix) => {
                let geometry = of_images(&matrix.forward, matrix.pixels, images);
                let rows = 0..geometry.out_h;
                conv_f32::conv(&matrix.packed, &geometry, rows, view, &epilogue, map);
            }
            Self::Depthwise(depthwise) => depthwise.run(view, &epilogue, map),
        }
    }

    /// Adds the gradient of the weights (HWIO) of `images` images; that of their maps begins with `grad_map`.
    pub(super) fn grad_weights(
        &self,
        images: usize,
        view: &[f32],
        grad_map: &[f32],
        grad: &mut [f32],
    ) {
        match self {
            Self::Matrix(matrix) => {
                let haloed = ConvGeometry {
                    out_row_stride: matrix.backward.row_stride,
                    ..matrix.forward
                };
                let geometry = of_images(&haloed, matrix.pixels, images);
                conv_f32::conv_grad_weights(matrix.isa, &geometry, view, grad_map, grad);
            }
            Self::Depthwise(depthwise) => depthwise.grad_weights(view, grad_map, grad),
        }
    }

    /// The gradient of the input of `images` images, dense, from that of their maps; added to what is there if `accumulate` says
    /// so.
    pub(super) fn grad_input(
        &self,
        images: usize,
        scratch: &[f32],
        own: &mut AlignedBuffer<f32>,
        grad: &mut [f32],
        accumulate: bool,
    ) {
        match self {
            Self::Matrix(matrix) if accumulate => {
                matrix.back(images, scratch, own);
                let pairs = grad.iter_mut().zip(own.iter());
                pairs.for_each(|(sum, x)| *sum += x);
            }
            Self::Matrix(matrix) if matrix.backward.is_needed() => {
                if !matrix.backward.is_complete() {
                    grad.fill(0.0);
                }
                matrix.back(images, scratch, grad);
            }
            Self::Depthwise(depthwise) if depthwise.is_needed => {
                if !accumulate {
                    grad.fill(0.0);
                }
                depthwise.grad_input(scratch, grad);
            }
            // The image needs no gradient.
            Self::Matrix(_) | Self::Depthwise(_) => {}
        }
    }
}

impl Scratch {
    /// Whether a map lies in it without anything around it.
    pub(super) fn is_dense(&self, map: &MapShape) -> bool {
        self.offset == 0 && self.row_stride == map.w * map.c
    }
}

impl Matrix {
    fn back(&self, images: usize, scratch: &[f32], grad: &mut [f32]) {
        match self.pixels {
            Some(pixels) => self.backward.run_pixels(images * pixels, scratch, grad),
            None => self.backward.run(scratch, grad),
        }
    }
}

impl IntegerForm {
    pub(super) fn new(
        kind: Kind,
        quantizer: &WeightState,
        isa: Isa,
        input: InputParams,
        bias: Option<&[f32]>,
    ) -> Self {
        match kind {
            Kind::Matrix(geometry, pixels, shape) => {
                Self::Matrix(geometry, pixels, quantizer.product(isa, shape, input, bias))
            }
            Kind::Depthwise(geometry) => Self::Depthwise(
                geometry,
                quantizer.depthwise(isa, geometry.kernel, input, bias),
            ),
        }
    }

    /// The maps of `images` images, each of `extents` rows and columns.
    pub(super) fn run(&self, images: usize, extents: [usize; 2], view: &[u8], map: &mut [f32]) {
        match self {
            Self::Matrix(geometry, pixels, product) => {
                let geometry = of_images(geometry, *pixels, images);
                product.run(false, &geometry, 0..geometry.out_h, view, map);
            }
            Self::Depthwise(geometry, product) => product.run(geometry, extents, view, map),
        }
    }
}
