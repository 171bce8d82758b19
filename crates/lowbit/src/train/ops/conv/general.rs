//! The products of a convolution with groups, with dilation, with a stride of its own each way or with padding as wide as its
//! kernel, forwards and backwards: group by group, and row by row where its taps are not neighbors.

use crate::graph::{Conv, Step};
use crate::lower::{ConvView, Layout};
use crate::train::qat::IntegerProduct;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, conv_f32};

pub(super) struct General {
    calls: Calls,
    /// Of each group, forwards, and backwards to the gradients of what each pixel sees.
    packed: Vec<conv_f32::PackedWeights>,
    packed_backward: Vec<conv_f32::PackedWeights>,
    conv: Conv,
    /// The input, dense, and the map.
    input: Layout,
    map: Layout,
    /// Whether the input needs a gradient: the image does not.
    is_needed: bool,
    isa: Isa,
}

/// What the products of f32 and of integers have in common.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    /// From the input value to the dense map.
    view: ConvView,
    /// Rows and columns of the map.
    extents: [usize; 2],
    /// Of a group's weights.
    pub(super) shape: WeightShape,
    pub(super) groups: usize,
}

impl Calls {
    /// Calls `each(group, geometry, where its view begins, where its result begins)` for every product of an image, offsets
    /// counting from the view's first element and the map's.
    fn each(&self, mut each: impl FnMut(usize, &ConvGeometry, usize, usize)) {
        let [h, w] = self.extents;
        self.view.calls(0..h, 0..w, |call| {
            let from = call.input - self.view.first();
            each(call.group, &call.geometry, from, call.output);
        });
    }

    /// The map of one image, in integers.
    pub(super) fn run(&self, products: &[IntegerProduct], view: &[u8], map: &mut [f32]) {
        self.each(|group, geometry, from, to| {
            let rows = 0..geometry.out_h;
            products[group].run(false, geometry, rows, &view[from..], &mut map[to..]);
        });
    }
}

impl General {
    pub(super) fn new(view: ConvView, (step, conv): (&Step, &Conv), isa: Isa) -> Self {
        let whole = step.weight_shape().expect("convolutions have weights");
        let shape = WeightShape {
            out_channels: whole.out_channels / conv.groups,
            ..whole
        };
        let map = Layout::new(step.main_shape, [0; 4]);
        let zeros = vec![0.0; shape.len()];
        let each = |pack: &dyn Fn() -> conv_f32::PackedWeights| -> Vec<_> {
            (0..conv.groups).map(|_| pack()).collect()
        };
        let is_needed = step.inputs[0] != 0;
        Self {
            calls: Calls {
                view,
                extents: [map.h, map.w],
                shape,
                groups: conv.groups,
            },
            packed: each(&|| conv_f32::PackedWeights::pack(isa, &zeros, shape)),
            packed_backward: match is_needed {
                true => {
                    let taps = WeightShape::linear(shape.out_channels, shape.fan_in());
                    each(&|| conv_f32::PackedWeights::pack_backward(isa, &zeros, taps))
                }
                false => Vec::new(),
            },
            conv: *conv,
            input: Layout::new(step.in_shapes[0], [0; 4]),
            map,
            is_needed,
            isa,
        }
    }

    pub(super) fn calls(&self) -> Calls {
        self.calls
    }

    /// Where an image's view of its input begins.
    pub(super) fn first(&self) -> usize {
        self.calls.view.first()
    }

    /// Elements of the gradients of what the pixels of a row see.
    pub(super) fn own_len(&self) -> usize {
        match self.is_needed {
            true => self.map.w * self.calls.shape.fan_in(),
            false => 0,
        }
    }

    pub(super) fn pack(&mut self, weights: &[f32]) {
        let of_groups = weights.chunks_exact(self.calls.shape.len());
        let pairs = self.packed.iter_mut().zip(of_groups);
        pairs.for_each(|(packed, weights)| packed.repack(weights));
    }

    pub(super) fn pack_backward(&mut self, weights: &[f32]) {
        let of_groups = weights.chunks_exact(self.calls.shape.len());
        let pairs = self.packed_backward.iter_mut().zip(of_groups);
        pairs.for_each(|(packed, weights)| packed.repack_backward(weights));
    }

    /// The map of one image, whose view begins with `view`.
    pub(super) fn run(&self, view: &[f32], bias: Option<&[f32]>, map: &mut [f32]) {
        let channels = self.calls.shape.out_channels;
        self.calls.each(|group, geometry, from, to| {
            let epilogue = conv_f32::Epilogue {
                bias: bias.map(|bias| &bias[group * channels..][..channels]),
                relu: false,
                ceiling: None,
            };
            let (view, map, rows) = (&view[from..], &mut map[to..], 0..geometry.out_h);
            conv_f32::conv(&self.packed[group], geometry, rows, view, &epilogue, map);
        });
    }

    /// Adds to the gradient of the weights, HWIO of each group.
    pub(super) fn grad_weights(&self, view: &[f32], grad_map: &[f32], grad: &mut [f32]) {
        let len = self.calls.shape.len();
        self.calls.each(|group, geometry, from, to| {
            let of_group = &mut grad[group * len..][..len];
            let (view, grad_map) = (&view[from..], &grad_map[to..]);
            conv_f32::conv_grad_weights(self.isa, geometry, view, grad_map, of_group);
        });
    }

    /// Adds to the gradient of the input, dense: that of what each pixel sees is a product of the pixel's own, and goes where it
    /// came from.
    pub(super) fn grad_input(
        &self,
        grad_map: &[f32],
        own: &mut AlignedBuffer<f32>,
        grad: &mut [f32],
    ) {
        let (shape, map) = (&self.calls.shape, &self.map);
        let seen = shape.fan_in();
        let geometry = ConvGeometry {
            in_pixel_stride: map.c,
            ..ConvGeometry::linear(map.w, shape.out_channels, seen)
        };
        let plain = conv_f32::Epilogue::default();
        for (group, packed) in self.packed_backward.iter().enumerate() {
            for y in 0..map.h {
                let from = &grad_map[y * map.row_stride + group * shape.out_channels..];
                conv_f32::conv(packed, &geometry, 0..1, from, &plain, own);
                for (x, taps) in own.chunks_exact(seen).take(map.w).enumerate() {
                    self.put_back([y, x], taps, &mut grad[group * shape.in_channels..]);
                }
            }
        }
    }

    /// Adds the gradients of what one pixel sees to where it lies; the first of the group's channels come first.
    fn put_back(&self, [y, x]: [usize; 2], taps: &[f32], grad: &mut [f32]) {
        let Conv {
            kernel,
            stride,
            padding,
            dilation,
            ..
        } = self.conv;
        let place = |axis: usize, at: usize, tap: usize, size: usize| {
            let place = (at * stride[axis] + tap * dilation[axis]).checked_sub(padding[axis]);
            place.filter(|&place| place < size)
        };
        let channels = self.calls.shape.in_channels;
        let mut of_taps = taps.chunks_exact(channels);
        for tap_row in 0..kernel[0] {
            let row = place(0, y, tap_row, self.input.h);
            for tap_column in 0..kernel[1] {
                let of_tap = of_taps.next().expect("a part for each tap");
                let column = place(1, x, tap_column, self.input.w);
                if let (Some(row), Some(column)) = (row, column) {
                    let to = row * self.input.row_stride + column * self.input.c;
                    let to = grad[to..][..channels].iter_mut();
                    to.zip(of_tap).for_each(|(sum, x)| *sum += x);
                }
            }
        }
    }
}
