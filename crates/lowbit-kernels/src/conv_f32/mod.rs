//! Convolutions and products in f32, for inference and for training: forward, gradient of the input (a forward
//! convolution with [`PackedWeights::pack_backward`]) and gradient of the weights.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod reference;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
pub mod winograd;

use crate::geometry::SLACK;
use crate::{AlignedBuffer, ConvGeometry, ImagesGeometry, Isa, Level, WeightShape};
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
        self.fill(|tap, first, row| {
            let column = weights[first * fan_in + tap..].iter().step_by(fan_in);
            row.iter_mut().zip(column).for_each(|(to, &w)| *to = w);
        });
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
        self.fill(|tap, first, row| {
            let (position, output) = (tap / outputs, tap % outputs);
            let from = (output * kernel + kernel - 1 - position) * inputs + first;
            row.copy_from_slice(&weights[from..from + row.len()]);
        });
    }

    fn zeroed(isa: Isa, shape: WeightShape) -> Self {
        let len = match lanes(isa, shape.out_channels) {
            0 => shape.len(),
            lanes => tile::packed_len(lanes, shape.out_channels, shape.fan_in()),
        };
        Self {
            isa,
            shape,
            packed: AlignedBuffer::zeroed(len),
        }
    }

    /// `row` writes one tap's weights of adjacent output channels: of the first argument, from the second on.
    fn fill(&mut self, mut row: impl FnMut(usize, usize, &mut [f32])) {
        let (out_channels, fan_in) = (self.shape.out_channels, self.shape.fan_in());
        match lanes(self.isa, out_channels) {
            0 => {
                for (index, out) in self.packed.iter_mut().enumerate() {
                    row(index % fan_in, index / fan_in, std::slice::from_mut(out));
                }
            }
            lanes => tile::pack(lanes, (out_channels, fan_in), row, &mut self.packed),
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

/// What happens to an accumulator before it is stored: `min(relu(acc + bias), ceiling)`, then pooling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[out_channels]`; none for zero.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// The largest result, if there is one: 6 for a ReLU6.
    pub ceiling: Option<f32>,
}

impl Epilogue<'_> {
    /// The result for the sum of channel `c`.
    pub(crate) fn apply(&self, acc: f32, c: usize) -> f32 {
        let sum = acc + self.bias.map_or(0.0, |bias| bias[c]);
        let sum = if self.relu { sum.max(0.0) } else { sum };
        self.ceiling.map_or(sum, |ceiling| sum.min(ceiling))
    }
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

/// As [`conv`], where the first and the last `border` rows and columns of the input view hold zeros: kernel rows and
/// columns that see nothing else are skipped. The result is the same to the bit, unless weights are not finite.
///
/// # Panics
/// As [`conv`], or if the borders overlap.
pub fn conv_haloed(
    weights: &PackedWeights,
    geometry: &ConvGeometry,
    rows: Range<usize>,
    border: usize,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let seen = |out: usize, kernel: usize| {
        let steps = out.saturating_sub(1).saturating_mul(geometry.stride);
        steps.saturating_add(kernel)
    };
    let in_h = seen(geometry.out_h, geometry.kernel_h);
    let in_w = seen(geometry.out_w, geometry.kernel_w);
    assert!(border <= in_h.min(in_w) / 2, "borders must not overlap");
    geometry.check(&weights.shape, &rows, input.len(), out.len());
    assert!(
        epilogue
            .bias
            .is_none_or(|bias| bias.len() >= geometry.out_channels),
        "a bias per channel"
    );
    let packed = &weights.packed;
    match level(weights.isa, weights.shape.out_channels) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that the features of its level (see `level`) are there; the assertions bound every access.
        Level::Avx512 | Level::Amx => unsafe {
            avx512::conv_f32_14x32_avx512(packed, geometry, rows, border, input, epilogue, out)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 | Level::AvxVnni => unsafe {
            avx2::conv_f32_6x16_avx2(packed, geometry, rows, border, input, epilogue, out)
        },
        _ => reference::conv(packed, geometry, rows, input, epilogue, out),
    }
}

/// Convolves several images at once; `input` and `out` begin at the first one's view, and what lies in the border is taken for
/// zeros, whatever it is. The result is that of [`conv`] for each image, to the bit, unless weights are not finite.
///
/// # Panics
/// If the geometry, the weights' shape and the slices do not fit together.
pub fn conv_images(
    weights: &PackedWeights,
    geometry: &ImagesGeometry,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    geometry.check(&weights.shape, input.len(), out.len());
    assert!(
        epilogue
            .bias
            .is_none_or(|bias| bias.len() >= geometry.image.out_channels),
        "a bias per channel"
    );
    let packed = &weights.packed;
    match level(weights.isa, weights.shape.out_channels) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that the features of its level (see `level`) are there; the assertions bound every access.
        Level::Avx512 | Level::Amx => unsafe {
            avx512::conv_f32_images_14x32_avx512(packed, geometry, input, epilogue, out)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 | Level::AvxVnni => unsafe {
            avx2::conv_f32_images_6x16_avx2(packed, geometry, input, epilogue, out)
        },
        _ => reference::conv_images(packed, geometry, input, epilogue, out),
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
    let weights = geometry.weight_shape().len();
    assert_eq!(geometry.pool, 1, "gradients are taken before pooling");
    assert_eq!(grad_weights.len(), weights, "a gradient per weight");
    // The gradient is a result that is read, so it needs the slack of one.
    let past = grad_out.len().checked_sub(SLACK);
    let grad_len = past.expect("the gradient must hold its extent and the slack");
    let (shape, rows) = (geometry.weight_shape(), 0..geometry.out_h);
    geometry.check(&shape, &rows, input.len(), grad_len);
    match level(isa, geometry.out_channels) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that the features of its level (see `level`) are there; the assertions bound every access.
        Level::Avx512 | Level::Amx => unsafe {
            avx512::conv_f32_grad_weights_14x32_avx512(geometry, input, grad_out, grad_weights)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 | Level::AvxVnni => unsafe {
            avx2::conv_f32_grad_weights_6x16_avx2(geometry, input, grad_out, grad_weights)
        },
        _ => reference::conv_grad_weights(geometry, input, grad_out, grad_weights),
    }
}

/// Writes the gradients of the weights of several images, which [`conv_grad_weights`] would add one after the other to zeros; what
/// lies in the border of the input is taken for zeros.
///
/// # Panics
/// If the geometry and the slices do not fit together.
pub fn conv_images_grad_weights(
    isa: Isa,
    geometry: &ImagesGeometry,
    input: &[f32],
    grad_out: &[f32],
    grad_weights: &mut [f32],
) {
    let shape = geometry.image.weight_shape();
    assert_eq!(grad_weights.len(), shape.len(), "a gradient per weight");
    // The gradient is a result that is read, so it needs the slack of one.
    let past = grad_out.len().checked_sub(SLACK);
    let grad_len = past.expect("the gradient must hold its extent and the slack");
    geometry.check(&shape, input.len(), grad_len);
    match level(isa, geometry.image.out_channels) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that the features of its level (see `level`) are there; the assertions bound every access.
        Level::Avx512 | Level::Amx => unsafe {
            avx512::conv_f32_images_grad_weights_14x32_avx512(
                geometry,
                input,
                grad_out,
                grad_weights,
            )
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 | Level::AvxVnni => unsafe {
            avx2::conv_f32_images_grad_weights_6x16_avx2(geometry, input, grad_out, grad_weights)
        },
        _ => reference::conv_images_grad_weights(geometry, input, grad_out, grad_weights),
    }
}

/// The level whose kernel computes so many output channels. Eight fill a vector of AVX2, and half of one of AVX-512: a machine that
/// does two of the first in the time of one of the second (Zen 4) gains. An `Isa` of AVX-512 is proof of AVX2 and FMA as well.
fn level(isa: Isa, out_channels: usize) -> Level {
    match isa.level() {
        Level::Avx512 | Level::Amx if out_channels <= 8 => Level::Avx2,
        level => level,
    }
}

/// Lanes of the vectors for so many output channels; 0 for the portable level, which keeps OHWI.
fn lanes(isa: Isa, out_channels: usize) -> usize {
    match level(isa, out_channels) {
        Level::Portable => 0,
        Level::Avx2 | Level::AvxVnni => 8,
        Level::Avx512 | Level::Amx => 16,
    }
}
