//! Convolutions and products in f32, for inference and for training: forward, gradient of the input (a forward
//! convolution with [`PackedWeights::pack_backward`]) and gradient of the weights.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;
mod tile;

use crate::geometry::SLACK;
use crate::{AlignedBuffer, ConvGeometry, Isa, WeightShape};
use std::ops::Range;

/// f32 weights in the tile order of one ISA's kernel.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    shape: WeightShape,
    /// Tile order (`[panel][tap][vector][lane]`), or OHWI for the portable level.
    packed: AlignedBuffer<f32>,
}

impl PackedWeights {
    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`) for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], shape: WeightShape) -> Self {
        let mut packed = Self::zeroed(isa, shape);
        packed.repack(weights);
        packed
    }

    /// Packs the weights of the gradient with respect to the input: rotated by 180° and with input and output channels
    /// exchanged, so that a forward convolution of the (zero-padded by `kernel - 1`) output gradient gives the input's.
    /// `weights` and `shape` are those of the forward convolution.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack_backward(isa: Isa, weights: &[f32], shape: WeightShape) -> Self {
        let turned = WeightShape {
            out_channels: shape.in_channels,
            in_channels: shape.out_channels,
            ..shape
        };
        let mut packed = Self::zeroed(isa, turned);
        packed.repack_backward(weights);
        packed
    }

    /// As [`PackedWeights::pack`], into the memory of this one.
    ///
    /// # Panics
    /// If `weights` has not as many elements as were packed before.
    pub fn repack(&mut self, weights: &[f32]) {
        assert_eq!(
            weights.len(),
            self.shape.len(),
            "weights must fill their shape"
        );
        let fan_in = self.shape.fan_in();
        self.fill(|channel, tap| weights[channel * fan_in + tap]);
    }

    /// As [`PackedWeights::pack_backward`], into the memory of this one.
    ///
    /// # Panics
    /// If `weights` has not as many elements as were packed before.
    pub fn repack_backward(&mut self, weights: &[f32]) {
        assert_eq!(
            weights.len(),
            self.shape.len(),
            "weights must fill their shape"
        );
        // The kernel's output channels are the layer's inputs and the other way around.
        let WeightShape {
            out_channels: inputs,
            kernel_h,
            kernel_w,
            in_channels: outputs,
        } = self.shape;
        let kernel = kernel_h * kernel_w;
        self.fill(|input, tap| {
            let (position, output) = (tap / outputs, tap % outputs);
            weights[(output * kernel + kernel - 1 - position) * inputs + input]
        });
    }

    fn zeroed(isa: Isa, shape: WeightShape) -> Self {
        let len = match lanes(isa) {
            0 => shape.len(),
            lanes => tile::packed_len(lanes, shape.out_channels, shape.fan_in()),
        };
        Self {
            isa,
            shape,
            packed: AlignedBuffer::zeroed(len),
        }
    }

    fn fill(&mut self, weight: impl Fn(usize, usize) -> f32) {
        let shape = (self.shape.out_channels, self.shape.fan_in());
        match lanes(self.isa) {
            0 => {
                for (index, out) in self.packed.iter_mut().enumerate() {
                    *out = weight(index / shape.1, index % shape.1);
                }
            }
            lanes => tile::pack(lanes, shape, weight, &mut self.packed),
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
    conv_haloed(weights, geometry, rows, 0, input, epilogue, out);
}

/// As [`conv`], where the first and the last `zero_rows` rows of the input view hold zeros: kernel rows that see nothing
/// else are skipped. The result is the same to the bit, unless weights are not finite.
///
/// # Panics
/// As [`conv`], or if `zero_rows` are more rows than there are.
pub fn conv_haloed(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    zero_rows: usize,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let in_rows = (geometry.out_h.max(1) - 1) * geometry.stride + geometry.kernel_h;
    assert!(2 * zero_rows <= in_rows, "more rows of zeros than rows");
    geometry.check(weights.shape, &rows, out.len());
    assert!(
        input.len() >= geometry.input_extent() + SLACK,
        "the input needs its extent and the slack"
    );
    assert!(
        epilogue
            .bias
            .is_none_or(|bias| bias.len() >= geometry.out_channels),
        "a bias per channel"
    );
    let packed = &weights.packed;
    match weights.isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that its features are there; the assertions bound every access.
        Isa::Avx512 => unsafe {
            avx512::conv(packed, geometry, rows, zero_rows, input, epilogue, out)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::conv(packed, geometry, rows, zero_rows, input, epilogue, out) },
        _ => portable::conv(packed, geometry, rows, input, epilogue, out),
    }
}

/// Adds one image's gradient of the weights to `grad_weights`, in the order `[kernel_h, kernel_w, in, out]` (HWIO: the
/// output channel is the fastest).
///
/// `geometry` is that of the forward convolution with `pool == 1`; `grad_out` is a view with its output strides
/// (readable for [`SLACK`] elements past its extent, as is `input`). Each weight's gradient is
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
    let weights =
        geometry.kernel_h * geometry.kernel_w * geometry.in_channels * geometry.out_channels;
    assert_eq!(geometry.pool, 1, "gradients are taken before pooling");
    assert_eq!(grad_weights.len(), weights, "a gradient per weight");
    assert!(
        input.len() >= geometry.input_extent() + SLACK,
        "the input needs its extent and the slack"
    );
    let extent = geometry.output_extent(geometry.out_h);
    assert!(
        grad_out.len() >= extent + SLACK,
        "the gradient needs its extent and the slack"
    );
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that its features are there; the assertions bound every access.
        Isa::Avx512 => unsafe {
            avx512::conv_grad_weights(geometry, input, grad_out, grad_weights)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::conv_grad_weights(geometry, input, grad_out, grad_weights) },
        _ => portable::conv_grad_weights(geometry, input, grad_out, grad_weights),
    }
}

/// Lanes of an ISA's vectors; 0 for the portable level, which keeps OHWI.
fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Portable => 0,
        Isa::Avx2 => 8,
        Isa::Avx512 => 16,
    }
}
