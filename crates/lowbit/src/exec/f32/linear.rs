//! Linear layer with bias and ReLU.

use super::Weights;
use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan, linear_geometry};
use crate::pool::share;
use lowbit_kernels::{ConvGeometry, Isa, WeightShape, float};

pub(super) struct Linear {
    input: Layout,
    output: Layout,
    /// Packed in parts of [`PART`] output channels where the layer is large, else in one.
    weights: Vec<float::PackedWeights>,
    bias: Vec<f32>,
    relu: bool,
    ceiling: Option<f32>,
}

/// Output channels of a part: whole panels on every ISA.
const PART: usize = 32;

/// Weights from which on a layer is worth sharing over threads: 256 KiB, which take longer to read than a thread to wake.
const LARGE: usize = 1 << 16;

impl Linear {
    pub(super) fn new(plan: &Plan, index: usize, (kernel, bias): Weights, isa: Isa) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        let shape = layer.weight_shape().expect("linear layers have weights");
        let part = match shape.len() >= LARGE {
            true => PART,
            false => shape.out_channels,
        };
        let weights = kernel.chunks(part * shape.fan_in()).map(|kernel| {
            let out_channels = kernel.len() / shape.fan_in();
            let shape = WeightShape {
                out_channels,
                ..shape
            };
            float::PackedWeights::pack(isa, kernel, shape)
        });
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            weights: weights.collect(),
            bias,
            relu: layer.epilogue.relu,
            ceiling: layer.epilogue.ceiling,
        }
    }

    fn part(&self, number: usize, geometry: &ConvGeometry, input: &[f32], out: &mut [f32]) {
        let weights = &self.weights[number];
        let out_channels = weights.shape().out_channels;
        let geometry = ConvGeometry {
            out_channels,
            ..*geometry
        };
        let epilogue = float::Epilogue {
            bias: Some(&self.bias[number * PART..][..out_channels]),
            relu: self.relu,
            ceiling: self.ceiling,
        };
        float::conv(weights, &geometry, 0..1, input, &epilogue, out);
    }
}

impl Kernel for Linear {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        let input = &input[self.input.first()..];
        let geometry = linear_geometry(&self.input, &self.output, call.images);
        let count = self.weights.len();
        let Some(team) = call.team.filter(|_| call.images == 1 && count > 1) else {
            for number in 0..count {
                self.part(number, &geometry, input, &mut out[number * PART..]);
            }
            return;
        };
        // As many as threads, so that each of them finds the weights of the last image in its cache.
        let parts = count.div_ceil(team.threads());
        let outs = out[..geometry.out_channels].chunks_mut(parts * PART);
        share(team, outs.enumerate().collect(), |(share, out)| {
            for (number, out) in out.chunks_mut(PART).enumerate() {
                self.part(share * parts + number, &geometry, input, out);
            }
        });
    }
}
