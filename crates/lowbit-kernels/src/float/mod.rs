//! Convolutions and products in f32, for inference and for training: forward, gradient of the input (a forward
//! convolution with [`PackedWeights::pack_backward`]) and gradient of the weights.

mod portable;

use crate::{ConvGeometry, Isa, WeightShape};
use std::ops::Range;

/// f32 weights in the tile order of one ISA's kernel.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    shape: WeightShape,
    ohwi: Vec<f32>,
}

impl PackedWeights {
    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`) for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], shape: WeightShape) -> Self {
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        Self {
            isa,
            shape,
            ohwi: weights.to_vec(),
        }
    }

    /// Packs the weights of the gradient with respect to the input: rotated by 180° and with input and output channels
    /// exchanged, so that a forward convolution of the (zero-padded by `kernel - 1`) output gradient gives the input's.
    /// `weights` and `shape` are those of the forward convolution.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack_backward(isa: Isa, weights: &[f32], shape: WeightShape) -> Self {
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        let WeightShape {
            out_channels,
            kernel_h,
            kernel_w,
            in_channels,
        } = shape;
        let mut turned = vec![0.0; weights.len()];
        for o in 0..out_channels {
            for h in 0..kernel_h {
                for w in 0..kernel_w {
                    for i in 0..in_channels {
                        let from = ((o * kernel_h + h) * kernel_w + w) * in_channels + i;
                        let (th, tw) = (kernel_h - 1 - h, kernel_w - 1 - w);
                        turned[((i * kernel_h + th) * kernel_w + tw) * out_channels + o] =
                            weights[from];
                    }
                }
            }
        }
        let shape = WeightShape {
            out_channels: in_channels,
            kernel_h,
            kernel_w,
            in_channels: out_channels,
        };
        Self {
            isa,
            shape,
            ohwi: turned,
        }
    }

    /// The shape that the kernel sees.
    #[must_use]
    pub fn shape(&self) -> WeightShape {
        self.shape
    }

    /// The ISA that the weights are packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

/// What happens to an accumulator before it is stored: `relu(acc + bias)`, then pooling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[out_channels]`; none for zero.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// Convolves one image: output rows `rows` (after pooling) of `geometry`, row `rows.start` at `out[0]`.
///
/// `input` starts at the view's first element and holds at least `geometry.input_extent() + SLACK` elements (the slack's
/// values do not matter, unless they are NaN or infinite: then only lanes that are thrown away see them).
///
/// Each output is accumulated by fused multiply-adds in the order kernel row, kernel column, input channel, starting from
/// zero: all ISAs agree to the bit.
///
/// # Panics
/// If the geometry, the weights' shape and the slices do not fit together.
pub fn conv(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    portable::conv(&weights.ohwi, geometry, rows, input, epilogue, out);
}

/// Adds one image's gradient of the weights to `grad_weights`, in the order `[kernel_h, kernel_w, in, out]` (HWIO: the
/// output channel is the fastest).
///
/// `geometry` is that of the forward convolution with `pool == 1`; `grad_out` is a view with its output strides
/// (readable for [`SLACK`](crate::geometry::SLACK) elements past its extent, as is `input`). Each weight's gradient is
/// accumulated over output rows, then columns, starting from its present value.
///
/// # Panics
/// If the geometry and the slices do not fit together.
pub fn conv_grad_weights(
    isa: Isa,
    geometry: &ConvGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let _ = isa;
    portable::conv_grad_weights(geometry, input, grad_out, grad_weights);
}
