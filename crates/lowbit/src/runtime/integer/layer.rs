//! A layer compiled for the integer kernels.

use super::pixel_params;
use crate::graph::{Block, Graph};
use crate::quant::{ActivationParams, QuantizedLayer};
use crate::runtime::plan::Plan;
use lowbit_kernels::bits::{self, BitWeights};
use lowbit_kernels::packed::WeightWidth;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, u8i8};

/// A layer's weights and the constants of its epilogue.
pub(super) struct Layer {
    pub(super) weights: Weights,
    pub(super) acc_offset: Vec<i32>,
    pub(super) multiplier: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// A layer's weights for the kernel that multiplies them.
pub(super) enum Weights {
    /// With u8 activations.
    Bytes(u8i8::PackedWeights),
    /// With 1-bit activations.
    Bits(BitWeights),
}

/// A checked layer's weights in the kernel's order, at their own width.
pub(in crate::runtime) fn pack(
    layer: &QuantizedLayer,
    shape: WeightShape,
    isa: Isa,
) -> u8i8::PackedWeights {
    let width = WeightWidth::of_bits(layer.bits.into()).expect("checked");
    u8i8::PackedWeights::pack_width(isa, width, &layer.weights, shape)
}

impl Layer {
    pub(super) fn new(
        block: &Block,
        layer: &QuantizedLayer,
        activations: &[ActivationParams],
        graph: &Graph,
        plan: &Plan,
        isa: Isa,
    ) -> Self {
        let shape = block.weight_shape().expect("checked");
        let input = activations[block.inputs[0]];
        let index = plan
            .blocks
            .list()
            .iter()
            .position(|b| b == block)
            .expect("one of the plan's");
        let output = activations[index + 1];
        let weights = pack(layer, shape, isa);
        let zero_point = i32::from(input.zero_point);
        let acc_offset: Vec<i32> = weights.sums().iter().map(|sum| -zero_point * sum).collect();
        // The image's real zero may lie between two integers; the difference goes into the bias.
        let residual = if block.inputs[0] == 0 {
            pixel_params(graph).1
        } else {
            0.0
        };
        let (s_x, s_y) = (f64::from(input.scale), f64::from(output.scale));
        let step = |c: usize| s_x * f64::from(layer.scale[c]);
        let multiplier = (0..shape.out_channels)
            .map(|c| (step(c) / s_y) as f32)
            .collect();
        let bias = (0..shape.out_channels)
            .map(|c| {
                let moved = step(c) * residual * f64::from(weights.sums()[c]);
                ((f64::from(layer.bias[c]) + moved) / s_y) as f32
            })
            .collect();
        Self {
            weights: Weights::Bytes(weights),
            acc_offset,
            multiplier,
            bias,
        }
    }

    /// The same layer for activations of one bit, to the same result: with q = (1 + σ)/2 and σ = ±1, Σ q·w is
    /// (Σ w + Σ σ·w)/2, so that twice the accumulator is Σ σ·w + Σ w, and half the multiplier (exact) undoes it.
    pub(super) fn in_bits(self, weights: BitWeights) -> Self {
        let Weights::Bytes(bytes) = &self.weights else {
            unreachable!("layers start with bytes")
        };
        let twice = self.acc_offset.iter().zip(bytes.sums());
        Self {
            acc_offset: twice.map(|(offset, sum)| sum + 2 * offset).collect(),
            multiplier: self.multiplier.iter().map(|m| m / 2.0).collect(),
            bias: self.bias,
            weights: Weights::Bits(weights),
        }
    }
}

/// Whether 1-bit products run where both sides have one bit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    WhereTheyFit,
    #[cfg(test)]
    Never,
}

/// The rows of `view` that output rows `rows` need, as signs, and the geometry that reads them from their first row on.
pub(super) fn in_words(
    isa: Isa,
    geometry: &ConvGeometry,
    rows: &std::ops::Range<usize>,
    view: &[u8],
) -> (AlignedBuffer<u32>, ConvGeometry) {
    let g = geometry;
    let first = rows.start * g.pool * g.stride;
    let out_h = rows.len() * g.pool;
    let in_h = (out_h.max(1) - 1) * g.stride + g.kernel_h;
    let in_w = (g.out_w.max(1) - 1) * g.stride + g.kernel_w;
    let words = bits::words(g.in_channels);
    let mut signs = AlignedBuffer::zeroed(in_h * in_w * words);
    for (row, signs) in signs.chunks_exact_mut(in_w * words).enumerate() {
        let start = (first + row) * g.in_row_stride;
        if g.in_pixel_stride == g.in_channels {
            let pixels = &view[start..][..in_w * g.in_channels];
            bits::pack_signs(isa, pixels, g.in_channels, 1, signs);
            continue;
        }
        for (pixel, signs) in signs.chunks_exact_mut(words).enumerate() {
            let channels = &view[start + pixel * g.in_pixel_stride..][..g.in_channels];
            bits::pack_signs(isa, channels, g.in_channels, 1, signs);
        }
    }
    let geometry = ConvGeometry {
        in_channels: words,
        in_pixel_stride: words,
        in_row_stride: in_w * words,
        out_h,
        ..*g
    };
    (signs, geometry)
}
