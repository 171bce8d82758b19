//! Linear layer with bias and ReLU.

use super::{Layer, Parameter, Pass};
use crate::Weights;
use crate::graph::Step;
use crate::lower::Plan;
use crate::quant::QuantizedLayer;
use crate::train::QatConfig;
use crate::train::qat::{IntegerProduct, WeightState};
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, conv_f32};
use rayon::prelude::*;

pub(super) struct Linear {
    index: usize,
    step: Step,
    weight: Parameter,
    bias: Parameter,
    packed: conv_f32::PackedWeights,
    packed_backward: Option<conv_f32::PackedWeights>,
    /// Gradient behind the ReLU, `[n, out]`.
    grad: AlignedBuffer<f32>,
    /// `[in, out]`.
    grad_weights: Vec<f32>,
    grad_input: AlignedBuffer<f32>,
    /// None in f32 training.
    quantizer: Option<WeightState>,
}

/// Rows of the batch that one thread takes at a time.
const ROWS: usize = 8;

/// Input features whose weight gradients one thread takes at a time.
const FEATURES: usize = 280;

impl Linear {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        weights: &Weights,
        isa: Isa,
        qat: Option<&QatConfig>,
    ) -> Self {
        let step = plan.exec.program.steps()[index].clone();
        let shape = step.weight_shape().expect("linear layers have weights");
        let weight = Parameter::new(format!("{}.weight", step.name), weights);
        Self {
            index,
            quantizer: super::weight_state(plan, index, &weight, weights, qat),
            bias: Parameter::new(format!("{}.bias", step.name), weights),
            packed: conv_f32::PackedWeights::pack(isa, &weight.value, shape),
            // The image needs no gradient.
            packed_backward: (step.inputs[0] != 0)
                .then(|| conv_f32::PackedWeights::pack_backward(isa, &weight.value, shape)),
            grad: AlignedBuffer::zeroed(0),
            grad_weights: vec![0.0; weight.value.len()],
            grad_input: AlignedBuffer::zeroed(0),
            weight,
            step,
        }
    }

    fn features(&self) -> (usize, usize) {
        (self.step.in_shapes[0].len(), self.step.out_shape.c())
    }
}

impl Linear {
    /// Brings the weights into the kernels' orders; the integer product in quantization-aware training.
    fn pack(&mut self, pass: &Pass) -> Option<IntegerProduct> {
        let Some(quantizer) = &mut self.quantizer else {
            self.packed.repack(&self.weight.value);
            if let Some(backward) = &mut self.packed_backward {
                backward.repack_backward(&self.weight.value);
            }
            return None;
        };
        quantizer.forward(&self.weight.value);
        let (quantizer, backward) = (&*quantizer, &mut self.packed_backward);
        let mut pack_backward = || {
            if let Some(backward) = backward {
                backward.repack_backward(&quantizer.dequantized);
            }
        };
        if !pass.has_integer_products() {
            pack_backward();
            self.packed.repack(&quantizer.dequantized);
            return None;
        }
        let (_, input) = pass.codes(self.step.inputs[0]);
        let shape = self
            .step
            .weight_shape()
            .expect("linear layers have weights");
        let bias = Some(&self.bias.value[..]);
        let product = || quantizer.product(pass.isa, (shape, &[]), input, bias);
        Some(rayon::join(product, pack_backward).0)
    }
}

impl Layer for Linear {
    fn forward(&mut self, pass: &mut Pass) {
        let (inputs, outputs) = self.features();
        let count = pass.count;
        let (from, to) = (self.step.inputs[0], self.index + 1);
        let mut value = std::mem::replace(&mut pass.values[to], AlignedBuffer::zeroed(0));
        let product = self.pack(pass);
        let codes: &[u8] = match &product {
            Some(_) => pass.codes(from).0.with_slack(),
            None => &[],
        };
        let input = pass.values[from].with_slack();
        let relu = self.step.epilogue.relu;
        let epilogue = conv_f32::Epilogue {
            bias: Some(&self.bias.value),
            relu,
            ceiling: None,
        };
        let packed = &self.packed;
        let parts = value[..count * outputs].par_chunks_mut(ROWS * outputs);
        parts.enumerate().for_each(|(part, out)| {
            let geometry = ConvGeometry::linear(out.len() / outputs, inputs, outputs);
            let start = part * ROWS * inputs;
            match &product {
                None => conv_f32::conv(packed, &geometry, 0..1, &input[start..], &epilogue, out),
                Some(product) => {
                    let view = &codes[start..];
                    product.run(relu, &geometry, 0..1, view, out);
                }
            }
        });
        pass.values[to] = value;
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let (inputs, outputs) = self.features();
        let (count, isa) = (pass.count, pass.isa);
        let (from, to) = (self.step.inputs[0], self.index + 1);
        pass.quantize_backward(to);
        if self.grad.len() < count * outputs {
            self.grad = AlignedBuffer::zeroed(count * outputs);
            let needed = self.packed_backward.is_some();
            self.grad_input = AlignedBuffer::zeroed(if needed { count * inputs } else { 0 });
        }
        let relu = self.step.epilogue.relu;
        let values = pass.values[to].iter().zip(pass.grads[to].iter());
        for (grad, (&y, &dy)) in self.grad[..count * outputs].iter_mut().zip(values) {
            *grad = if relu && y <= 0.0 { 0.0 } else { dy };
        }
        self.bias.grad.fill(0.0);
        for row in self.grad[..count * outputs].chunks_exact(outputs) {
            self.bias
                .grad
                .iter_mut()
                .zip(row)
                .for_each(|(sum, dy)| *sum += dy);
        }
        let input = pass.values[from].with_slack();
        let grad = self.grad.with_slack();
        // A part of the features is a convolution that reads a part of each pixel's channels.
        self.grad_weights
            .par_chunks_mut(FEATURES * outputs)
            .enumerate()
            .for_each(|(part, out)| {
                out.fill(0.0);
                let geometry = ConvGeometry {
                    in_channels: out.len() / outputs,
                    ..ConvGeometry::linear(count, inputs, outputs)
                };
                let view = &input[part * FEATURES..];
                conv_f32::conv_grad_weights(isa, &geometry, view, grad, out);
            });
        let by_input = &self.grad_weights;
        self.weight
            .grad
            .par_chunks_mut(inputs)
            .enumerate()
            .for_each(|(output, grad)| {
                for (input, grad) in grad.iter_mut().enumerate() {
                    *grad = by_input[input * outputs + output];
                }
            });
        if let Some(quantizer) = &mut self.quantizer {
            quantizer.backward(&self.weight.value, &mut self.weight.grad);
        }
        let Some(packed) = &self.packed_backward else {
            return;
        };
        let accumulate = pass.written[from];
        pass.written[from] = true;
        let grads = &mut pass.grads[from][..count * inputs];
        let back = |part: usize, out: &mut [f32]| {
            let geometry = ConvGeometry::linear(out.len() / inputs, outputs, inputs);
            let view = &grad[part * ROWS * outputs..];
            conv_f32::conv(
                packed,
                &geometry,
                0..1,
                view,
                &conv_f32::Epilogue::default(),
                out,
            );
        };
        if accumulate {
            let own = &mut self.grad_input[..count * inputs];
            own.par_chunks_mut(ROWS * inputs)
                .enumerate()
                .for_each(|(part, out)| back(part, out));
            grads.iter_mut().zip(&*own).for_each(|(sum, x)| *sum += x);
        } else {
            grads
                .par_chunks_mut(ROWS * inputs)
                .enumerate()
                .for_each(|(part, out)| back(part, out));
        }
    }

    fn parameters(&mut self) -> Vec<&mut Parameter> {
        let mut parameters = vec![&mut self.weight, &mut self.bias];
        parameters.extend(self.quantizer.as_mut().map(WeightState::parameter));
        parameters
    }

    fn save(&self, weights: &mut Weights) {
        self.weight.save(weights);
        self.bias.save(weights);
        if let Some(quantizer) = &self.quantizer {
            quantizer.save(weights);
        }
    }

    fn export(&mut self) -> Option<QuantizedLayer> {
        let quantizer = self.quantizer.as_mut()?;
        quantizer.forward(&self.weight.value);
        Some(quantizer.export(Some(&self.bias.value), |_| (1.0, 0.0, 0.0)))
    }
}
