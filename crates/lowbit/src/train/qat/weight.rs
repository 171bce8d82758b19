//! Latent weights and their integers.

use super::{QatConfig, WeightQuantizer, best_scale};
use crate::Weights;
use crate::bits::WeightBits;
use crate::quant::{InputParams, Product, ProductConstants, QuantizedLayer, Requant, quantizers};
use crate::train::parameter::Parameter;
use lowbit_kernels::depthwise::{self, DepthwiseGeometry, Dequantize, IntegerWeights};
use lowbit_kernels::images::Window;
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa, WeightShape};
use rayon::prelude::*;
use std::ops::Range;

/// A layer's product as the integer kernels take it, with f32 results.
pub(in crate::train) struct IntegerProduct {
    weights: Product,
    constants: ProductConstants,
}

impl IntegerProduct {
    /// Whether several images can be taken at once.
    pub(in crate::train) fn takes_images(&self) -> bool {
        self.weights.takes_images()
    }

    /// The maps of several images.
    pub(in crate::train) fn run_images(
        &self,
        geometry: &ImagesGeometry,
        view: &[u8],
        out: &mut [f32],
    ) {
        let constants = &self.constants;
        self.weights
            .run_images_f32(constants, false, geometry, view, out);
    }

    pub(in crate::train) fn run(
        &self,
        relu: bool,
        geometry: &ConvGeometry,
        rows: Range<usize>,
        view: &[u8],
        out: &mut [f32],
    ) {
        self.weights
            .run_f32(&self.constants, relu, geometry, rows, view, out);
    }
}

/// A depthwise convolution as the integer kernels take it, with f32 results.
pub(in crate::train) struct IntegerDepthwise {
    weights: IntegerWeights,
    acc_offset: Vec<i32>,
    requant: Requant,
}

impl IntegerDepthwise {
    /// The map of one image, `extents` being its rows and columns.
    pub(in crate::train) fn run(
        &self,
        geometry: &DepthwiseGeometry,
        extents: [usize; 2],
        view: &[u8],
        out: &mut [f32],
    ) {
        let dequantize = Dequantize {
            acc_offset: &self.acc_offset,
            multiplier: &self.requant.multiplier,
            bias: &self.requant.bias,
            relu: false,
        };
        let rectangle = extents.map(|extent| 0..extent);
        depthwise::conv_u8_f32(&self.weights, geometry, rectangle, view, &dequantize, out);
    }
}

/// The quantizer of one layer's weights.
pub(in crate::train) struct WeightState {
    pub(in crate::train) bits: WeightBits,
    quantizer: WeightQuantizer,
    ste: bool,
    fan_in: usize,
    /// ln of the step of each output channel; learned by LSQ.
    ln_scale: Parameter,
    /// Integers, OHWI.
    pub(in crate::train) codes: Vec<i16>,
    /// Step of each output channel.
    pub(in crate::train) scale: Vec<f32>,
    /// `codes · scale`: what the backward pass sees.
    pub(in crate::train) dequantized: Vec<f32>,
}

impl WeightState {
    pub(in crate::train) fn new(
        config: &QatConfig,
        bits: WeightBits,
        layer: &str,
        latent: &Parameter,
        weights: &Weights,
    ) -> Self {
        let channels = latent.shape[0];
        let fan_in = latent.value.len() / channels;
        let limit = f32::from(bits.magnitude_max());
        // One bit's step is not learned, and this one not used.
        let grid = bits.max(WeightBits::Ternary);
        let initial = |channel: &[f32]| {
            let largest = channel
                .iter()
                .fold(f32::MIN_POSITIVE, |max, w| max.max(w.abs()));
            let rounded = |w: f32, s: f32| grid.nearest((w / s).into()) as f32 * s;
            best_scale(channel.iter().copied(), largest / limit, rounded).ln()
        };
        let of_channels = latent.value.par_chunks_exact(fan_in);
        let ln_scale = of_channels.map(initial).collect();
        Self {
            bits,
            quantizer: config.quantizer,
            ste: config.ste,
            fan_in,
            ln_scale: Parameter::or(format!("{layer}.weight_ln_scale"), ln_scale, weights)
                .at_rate(super::STEP_RATE),
            codes: vec![0; latent.value.len()],
            scale: vec![1.0; channels],
            dequantized: vec![0.0; latent.value.len()],
        }
    }

    /// Whether the step is learned: one bit has no step but the mean magnitude, and 16 bits must not overflow.
    fn learns_scale(&self) -> bool {
        self.quantizer == WeightQuantizer::Lsq
            && ![WeightBits::B1, WeightBits::B16].contains(&self.bits)
    }

    /// Rounds the latent weights.
    pub(in crate::train) fn forward(&mut self, latent: &[f32]) {
        let (bits, quantizer, learned) = (self.bits, self.quantizer, self.learns_scale());
        let ln_scale = &self.ln_scale.value;
        self.codes
            .par_chunks_mut(self.fan_in)
            .zip(self.dequantized.par_chunks_mut(self.fan_in))
            .zip(self.scale.par_iter_mut())
            .zip(latent.par_chunks(self.fan_in))
            .enumerate()
            .for_each(|(channel, (((codes, dequantized), scale), latent))| {
                *scale = if learned {
                    let scale = ln_scale[channel].exp();
                    quantizers::round(latent, scale, bits, codes);
                    scale
                } else if quantizer == WeightQuantizer::DoReFa && bits > WeightBits::B1 {
                    let squashed: Vec<f32> = latent.iter().map(|w| w.tanh()).collect();
                    quantizers::quantize_channel(&squashed, bits, codes)
                } else {
                    quantizers::quantize_channel(latent, bits, codes)
                };
                for (x, &q) in dequantized.iter_mut().zip(&*codes) {
                    *x = f32::from(q) * *scale;
                }
            });
    }

    /// Turns the gradient of the dequantized weights into that of the latent ones, in place, and of the step.
    ///
    /// Straight through inside the range, zero outside; for the step, Esser et al. 2020, equation 3 (times the step,
    /// since its logarithm is learned), with their gradient scale.
    pub(in crate::train) fn backward(&mut self, latent: &[f32], grad: &mut [f32]) {
        // Of odd integers, which are two apart, the last one's range ends one further.
        let reach =
            f32::from(self.bits.magnitude_max()) + if self.bits.is_odd() { 1.0 } else { 0.5 };
        let learned = self.learns_scale();
        let positive = (1u32 << (self.bits.get() - 1)) - 1;
        let grad_scale = 1.0 / (self.fan_in as f32 * positive.max(1) as f32).sqrt();
        let (ste, quantizer, bits) = (self.ste, self.quantizer, self.bits);
        let scales = self
            .scale
            .par_iter()
            .zip(self.dequantized.par_chunks(self.fan_in));
        self.ln_scale
            .grad
            .par_iter_mut()
            .zip(grad.par_chunks_mut(self.fan_in))
            .zip(latent.par_chunks(self.fan_in))
            .zip(scales)
            .for_each(|(((grad_ln_scale, grad), latent), (&scale, dequantized))| {
                let mut sum = 0.0;
                for ((g, &w), &x) in grad.iter_mut().zip(latent).zip(dequantized) {
                    let inside = !learned || (w / scale).abs() <= reach;
                    sum += *g * if inside { x - w } else { x };
                    let slope = match quantizer {
                        WeightQuantizer::DoReFa if bits > WeightBits::B1 => 1.0 - w.tanh().powi(2),
                        // A sign passes gradients while the latent weight is of the size of its kind (Courbariaux et
                        // al. 2016, the clipping of section 1.2, relative to the scale).
                        _ if bits == WeightBits::B1 => f32::from(u8::from(w.abs() <= 4.0 * scale)),
                        _ => f32::from(u8::from(inside)),
                    };
                    *g *= if ste { slope } else { 0.0 };
                }
                *grad_ln_scale = if learned { sum * grad_scale } else { 0.0 };
            });
    }

    /// The integers in the kernel's order, and how accumulators of an input with these parameters become real numbers; for
    /// several images at once too, where pixels see `windows` of the kernel.
    pub(in crate::train) fn product(
        &self,
        isa: Isa,
        (shape, windows): (WeightShape, &[Window]),
        input: InputParams,
        bias: Option<&[f32]>,
    ) -> IntegerProduct {
        self.product_of(isa, (shape, windows), (0..self.scale.len(), bias), input)
    }

    /// As [`product`](Self::product), of one of several groups of a `shape` each.
    pub(in crate::train) fn group_product(
        &self,
        isa: Isa,
        (shape, group): (WeightShape, usize),
        input: InputParams,
        bias: Option<&[f32]>,
    ) -> IntegerProduct {
        let first = group * shape.out_channels;
        let channels = first..first + shape.out_channels;
        self.product_of(isa, (shape, &[]), (channels, bias), input)
    }

    fn product_of(
        &self,
        isa: Isa,
        (shape, windows): (WeightShape, &[Window]),
        (channels, bias): (Range<usize>, Option<&[f32]>),
        input: InputParams,
    ) -> IntegerProduct {
        let codes = &self.codes[channels.start * self.fan_in..channels.end * self.fan_in];
        let weights = Product::pack(isa, self.bits, codes, shape, false)
            .expect("quantizers keep to the width")
            .with_windows(codes, windows);
        let (scale, bias) = (
            &self.scale[channels.clone()],
            bias.map(|bias| &bias[channels]),
        );
        let requant = Requant::new(weights.sums(), scale, bias, input, None);
        let constants = weights.constants(requant);
        IntegerProduct { weights, constants }
    }

    /// As [`product`](Self::product), of a depthwise convolution.
    pub(in crate::train) fn depthwise(
        &self,
        isa: Isa,
        kernel: [usize; 2],
        input: InputParams,
        bias: Option<&[f32]>,
    ) -> IntegerDepthwise {
        let weights = IntegerWeights::pack(isa, &self.codes, self.scale.len(), kernel);
        let requant = Requant::new(weights.sums(), &self.scale, bias, input, None);
        IntegerDepthwise {
            acc_offset: requant.acc_offset(weights.sums()),
            weights,
            requant,
        }
    }

    /// The deployed layer: `folded` gives batch-norm's factor, mean and shift per channel. A negative factor turns the
    /// signs of its channel's integers, so that all scales are positive.
    pub(in crate::train) fn export(
        &self,
        bias: Option<&[f32]>,
        folded: impl Fn(usize) -> (f64, f64, f64),
    ) -> QuantizedLayer {
        let mut layer = QuantizedLayer {
            bits: self.bits,
            weights: Vec::with_capacity(self.codes.len()),
            scale: Vec::new(),
            bias: Vec::new(),
        };
        for (channel, codes) in self.codes.chunks_exact(self.fan_in).enumerate() {
            let (factor, mean, beta) = folded(channel);
            let sign = if factor < 0.0 { -1 } else { 1 };
            layer.weights.extend(codes.iter().map(|&q| q * sign));
            let scale = (f64::from(self.scale[channel]) * factor.abs()) as f32;
            layer.scale.push(scale.max(f32::MIN_POSITIVE));
            let own = bias.map_or(0.0, |bias| f64::from(bias[channel]));
            layer.bias.push(((own - mean) * factor + beta) as f32);
        }
        layer
    }

    pub(in crate::train) fn parameter(&mut self) -> &mut Parameter {
        &mut self.ln_scale
    }

    pub(in crate::train) fn save(&self, weights: &mut Weights) {
        self.ln_scale.save(weights);
    }
}
