//! The products of a convolution, forwards and backwards: one of matrices, a filter for each channel, or any other.

use super::backward::Backward;
use super::depthwise::Depthwise;
use super::general::{self, General};
use super::kernel::Kernel;
use crate::graph::{Conv, Step};
use crate::lower::{ConvView, Layout, Plan};
use crate::quant::InputParams;
use crate::train::SLICE;
use crate::train::qat::{IntegerDepthwise, IntegerProduct, WeightState};
use lowbit_kernels::batch_norm::MapShape;
use lowbit_kernels::depthwise::DepthwiseGeometry;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, ImagesGeometry, Isa, WeightShape, conv_f32};

/// In f32.
pub(super) enum FloatProduct {
    Matrix(Box<Matrix>),
    Depthwise(Box<Depthwise>),
    General(Box<General>),
}

pub(super) struct Matrix {
    shape: WeightShape,
    /// From the input value to the dense map, and where the first pixel's view begins.
    forward: ConvGeometry,
    view_start: usize,
    several: Several,
    kernel: Kernel,
    backward: Backward,
    isa: Isa,
}

/// How the images of a slice are taken: weights are read once for all of them, where they are many beside the pixels.
#[derive(Clone, Copy)]
pub(super) enum Several {
    /// One after the other.
    No,
    /// As one product over so many pixels each, where each pixel of the map is a product of one of the input alone and images
    /// lie behind one another.
    Pixels(usize),
    /// Pixel by pixel, all images of a pixel at once. Of no image yet.
    Images(ImagesGeometry),
}

/// What an integer product is made for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Matrix(ConvGeometry, Several, WeightShape),
    Depthwise(DepthwiseGeometry),
    General(general::Calls),
}

/// In integers, with f32 results.
pub(super) enum IntegerForm {
    Matrix(Box<IntegerMatrix>),
    Depthwise(DepthwiseGeometry, Box<IntegerDepthwise>),
    General(Box<general::Calls>, Vec<IntegerProduct>),
}

/// A product of matrices, in integers.
pub(super) struct IntegerMatrix {
    geometry: ConvGeometry,
    several: Several,
    product: IntegerProduct,
}

/// What the gradient of a slice's weights is made of, where its images are taken at once.
#[derive(Clone, Copy)]
pub(super) struct OfSlice<'a> {
    pub(super) images: usize,
    /// The first image's view of the input.
    pub(super) view: &'a [f32],
    /// The gradient of the first image's map, as [`FloatProduct::scratch`] says.
    pub(super) grad_map: &'a [f32],
}

/// How the gradient of a map lies in its scratch.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    /// Of the map's first pixel.
    pub(super) offset: usize,
    pub(super) row_stride: usize,
    /// From one image to the next, and of all images that are taken at once.
    pub(super) image_len: usize,
    pub(super) len: usize,
}

/// Pixels of an image up to which those of a slice are one product. With more of them weights are no burden, and sums over all
/// of them in f32 would lose digits.
const FEW_PIXELS: usize = 256;

/// Most pixels of a map up to which the images of a slice are taken at once, pixel by pixel.
const FEW_MAP_PIXELS: usize = 64;

/// The product over all pixels of some images.
fn over_pixels(geometry: &ConvGeometry, pixels: usize) -> ConvGeometry {
    ConvGeometry::linear(pixels, geometry.in_channels, geometry.out_channels)
}

impl FloatProduct {
    pub(super) fn new(plan: &Plan, index: usize, (step, conv): (&Step, &Conv), isa: Isa) -> Self {
        let input = plan.input(index, 0);
        let map = Layout::new(step.main_shape, [0; 4]);
        let view = ConvView::new(conv, step.main_shape, false, &input, &map);
        if let Some(depthwise) = Depthwise::new(&view, (step, conv), isa) {
            return Self::Depthwise(Box::new(depthwise));
        }
        let is_wide = (0..4).any(|side| conv.padding[side] >= conv.kernel[side % 2]);
        if is_wide || !conv.is_plain() {
            return Self::General(Box::new(General::new(view, (step, conv), isa)));
        }
        let is_pointwise = conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.padding == [0; 4];
        let shape = step.weight_shape().expect("convolutions have weights");
        let pixels = map.h * map.w;
        let Some((forward, 1)) = view.even_groups() else {
            unreachable!("others have forms of their own")
        };
        let several = if is_pointwise && pixels <= FEW_PIXELS && input.is_dense() {
            Several::Pixels(pixels)
        } else if pixels <= FEW_MAP_PIXELS {
            Several::Images(ImagesGeometry {
                image: forward,
                images: 0,
                in_image_stride: input.image_len,
                out_image_stride: map.image_len,
                border: [conv.padding[0], conv.padding[1]],
                size: [input.h, input.w],
            })
        } else {
            Several::No
        };
        Self::Matrix(Box::new(Matrix {
            shape,
            forward,
            view_start: input.border(conv.padding[0], conv.padding[1]),
            several,
            kernel: Kernel::new(isa, &forward, [input.image_len, map.image_len]),
            backward: Backward::new(step, conv, isa),
            isa,
        }))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Matrix(matrix) => Kind::Matrix(matrix.forward, matrix.several, matrix.shape),
            Self::Depthwise(depthwise) => Kind::Depthwise(*depthwise.geometry()),
            Self::General(general) => Kind::General(general.calls()),
        }
    }

    /// How many images of a slice one call takes.
    pub(super) fn images_at_once(&self) -> usize {
        match self {
            Self::Matrix(matrix) => match matrix.several {
                Several::No => 1,
                Several::Pixels(_) | Several::Images(_) => SLICE,
            },
            Self::Depthwise(_) | Self::General(_) => 1,
        }
    }

    /// How many parts of the output channels have gradients of their weights one behind the other.
    pub(super) fn groups(&self) -> usize {
        match self {
            Self::Matrix(_) | Self::Depthwise(_) => 1,
            Self::General(general) => general.calls().groups,
        }
    }

    /// Where an image's view of its input begins.
    pub(super) fn view_start(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.view_start,
            Self::Depthwise(depthwise) => depthwise.first(),
            Self::General(general) => general.first(),
        }
    }

    pub(super) fn scratch(&self, map: &MapShape) -> Scratch {
        match self {
            Self::Matrix(matrix) => Scratch {
                offset: matrix.backward.offset,
                row_stride: matrix.backward.row_stride,
                image_len: matrix.backward.scratch_len,
                len: self.images_at_once() * matrix.backward.scratch_len,
            },
            Self::Depthwise(_) | Self::General(_) => Scratch {
                offset: 0,
                row_stride: map.w * map.c,
                image_len: map.len(),
                len: map.len(),
            },
        }
    }

    /// Elements of room for a gradient of the input that is added to another's, or for parts of one.
    pub(super) fn own_len(&self, input: usize) -> usize {
        match self {
            Self::Matrix(matrix) if matrix.backward.is_needed() => self.images_at_once() * input,
            Self::General(general) => general.own_len(),
            Self::Matrix(_) | Self::Depthwise(_) => 0,
        }
    }

    /// Brings weights (OHWI) into the orders of the forward and the backward pass.
    pub(super) fn pack_both(&mut self, weights: &[f32]) {
        match self {
            Self::Matrix(matrix) => {
                let (shape, stride) = (matrix.shape, matrix.forward.stride);
                let Matrix {
                    kernel, backward, ..
                } = &mut **matrix;
                rayon::join(
                    || kernel.repack(weights),
                    || backward.pack(weights, shape, stride),
                );
            }
            Self::Depthwise(depthwise) => {
                depthwise.pack(weights);
                depthwise.pack_backward(weights);
            }
            Self::General(general) => {
                general.pack(weights);
                general.pack_backward(weights);
            }
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
            Self::General(general) => general.pack_backward(weights),
        }
    }

    /// The maps of `images` images, without a bias where `bias` is none.
    pub(super) fn run(&self, images: usize, view: &[f32], bias: Option<&[f32]>, map: &mut [f32]) {
        match self {
            Self::Matrix(matrix) => {
                let geometry = match matrix.several {
                    Several::Images(geometry) => {
                        let geometry = ImagesGeometry { images, ..geometry };
                        return matrix.kernel.run_images(&geometry, view, bias, map);
                    }
                    Several::Pixels(pixels) => over_pixels(&matrix.forward, images * pixels),
                    Several::No => matrix.forward,
                };
                matrix.kernel.run(&geometry, 0, view, bias, map);
            }
            Self::Depthwise(depthwise) => depthwise.run(view, bias, map),
            Self::General(general) => general.run(view, bias, map),
        }
    }

    /// Adds the gradient of the weights (HWIO, of each group) of `images` images, the `first` ones of a slice to zeros; that of their maps begins
    /// with `grad_map`.
    pub(super) fn grad_weights(
        &self,
        (first, images): (bool, usize),
        view: &[f32],
        grad_map: &[f32],
        grad: &mut [f32],
    ) {
        let writes = matches!(self, Self::Matrix(it) if matches!(it.several, Several::Images(_)));
        if first && !writes {
            grad.fill(0.0);
        }
        match self {
            Self::Matrix(matrix) => {
                let WeightShape {
                    in_channels,
                    out_channels,
                    ..
                } = matrix.shape;
                let slice = OfSlice {
                    images,
                    view,
                    grad_map,
                };
                matrix.add_grad_weights([[0, 0], [in_channels, out_channels]], &slice, grad);
            }
            Self::Depthwise(depthwise) => depthwise.grad_weights(view, grad_map, grad),
            Self::General(general) => general.grad_weights(view, grad_map, grad),
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
            Self::General(general) => {
                if !accumulate {
                    grad.fill(0.0);
                }
                general.grad_input(scratch, own, grad);
            }
            // The image needs no gradient.
            Self::Matrix(_) | Self::Depthwise(_) => {}
        }
    }
}

impl Scratch {
    /// Whether maps lie in it one behind the other, without anything around them.
    pub(super) fn is_dense(&self, map: &MapShape) -> bool {
        self.offset == 0 && self.row_stride == map.w * map.c && self.image_len == map.len()
    }
}

impl Matrix {
    pub(super) fn shape(&self) -> WeightShape {
        self.shape
    }

    /// The gradient (HWIO) of a slice's weights from input and output channels on, the first pair, of as many as the second says.
    pub(super) fn grad_block(
        &self,
        channels: [[usize; 2]; 2],
        slice: &OfSlice<'_>,
        grad: &mut [f32],
    ) {
        if !matches!(self.several, Several::Images(_)) {
            grad.fill(0.0);
        }
        self.add_grad_weights(channels, slice, grad);
    }

    /// The same, added to what is there; instead of what is there where images are taken pixel by pixel.
    fn add_grad_weights(
        &self,
        [first, channels]: [[usize; 2]; 2],
        slice: &OfSlice<'_>,
        grad: &mut [f32],
    ) {
        let [in_channels, out_channels] = channels;
        let of_block = |geometry: ConvGeometry| ConvGeometry {
            in_channels,
            out_channels,
            ..geometry
        };
        let haloed = ConvGeometry {
            out_row_stride: self.backward.row_stride,
            ..self.forward
        };
        let (isa, images) = (self.isa, slice.images);
        let (view, grad_map) = (&slice.view[first[0]..], &slice.grad_map[first[1]..]);
        let geometry = match self.several {
            Several::Images(geometry) => {
                let geometry = ImagesGeometry {
                    image: of_block(haloed),
                    images,
                    out_image_stride: self.backward.scratch_len,
                    ..geometry
                };
                return conv_f32::conv_images_grad_weights(isa, &geometry, view, grad_map, grad);
            }
            Several::Pixels(pixels) => of_block(over_pixels(&haloed, images * pixels)),
            Several::No => of_block(haloed),
        };
        conv_f32::conv_grad_weights(isa, &geometry, view, grad_map, grad);
    }

    fn back(&self, images: usize, scratch: &[f32], grad: &mut [f32]) {
        match self.several {
            Several::Pixels(pixels) => self.backward.run_pixels(images * pixels, scratch, grad),
            Several::Images(_) => self.backward.run_images(images, scratch, grad),
            Several::No => self.backward.run(scratch, grad),
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
            Kind::Matrix(geometry, several, shape) => {
                let windows = match &several {
                    Several::Images(geometry) => geometry.windows(),
                    Several::No | Several::Pixels(_) => Vec::new(),
                };
                Self::Matrix(Box::new(IntegerMatrix {
                    geometry,
                    several,
                    product: quantizer.product(isa, (shape, &windows), input, bias),
                }))
            }
            Kind::Depthwise(geometry) => Self::Depthwise(
                geometry,
                Box::new(quantizer.depthwise(isa, geometry.kernel, input, bias)),
            ),
            Kind::General(calls) => {
                let group = |group| quantizer.group_product(isa, (calls.shape, group), input, bias);
                let products = (0..calls.groups).map(group).collect();
                Self::General(Box::new(calls), products)
            }
        }
    }

    /// The maps of `images` images, each of `extents` rows and columns.
    pub(super) fn run(&self, images: usize, extents: [usize; 2], view: &[u8], map: &mut [f32]) {
        match self {
            Self::Matrix(matrix) => matrix.run(images, view, map),
            Self::Depthwise(geometry, product) => product.run(geometry, extents, view, map),
            Self::General(calls, products) => calls.run(products, view, map),
        }
    }
}

impl IntegerMatrix {
    /// The maps of `images` images.
    fn run(&self, images: usize, view: &[u8], map: &mut [f32]) {
        let one = |geometry: &ConvGeometry, view: &[u8], map: &mut [f32]| {
            let rows = 0..geometry.out_h;
            self.product.run(false, geometry, rows, view, map);
        };
        match self.several {
            Several::No => one(&self.geometry, view, map),
            Several::Pixels(pixels) => {
                one(&over_pixels(&self.geometry, images * pixels), view, map)
            }
            Several::Images(geometry) if self.product.takes_images() => {
                let geometry = ImagesGeometry { images, ..geometry };
                self.product.run_images(&geometry, view, map);
            }
            Several::Images(geometry) => {
                for (image, map) in map.chunks_mut(geometry.out_image_stride).enumerate() {
                    one(
                        &self.geometry,
                        &view[image * geometry.in_image_stride..],
                        map,
                    );
                }
            }
        }
    }
}
