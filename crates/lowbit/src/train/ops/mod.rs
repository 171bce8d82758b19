//! The operators in training: forward and backward side by side, one file each.

mod activation;
mod attention;
mod binary;
mod channels;
mod conv;
mod linear;
mod moves;
mod normalization;
mod per_pixel;
mod pool;

use super::TrainError;
use super::parameter::Parameter;
use super::pass::Pass;
use crate::Weights;
use crate::exec::Move;
use crate::graph::{Op, ValueId};
use crate::lower::{Layout, Plan};
use crate::quant::QuantizedLayer;
use crate::train::QatConfig;
use crate::train::qat::WeightState;
use lowbit_kernels::Isa;
use rayon::prelude::*;

/// A step in training.
pub(super) trait Layer: Send {
    /// Computes the step's value from its inputs.
    fn forward(&mut self, pass: &mut Pass);

    /// Computes the gradients of the step's parameters and inputs from that of its value.
    fn backward(&mut self, pass: &mut Pass);

    /// What the optimizer changes.
    fn parameters(&mut self) -> Vec<&mut Parameter> {
        Vec::new()
    }

    /// Writes parameters and statistics.
    fn save(&self, _weights: &mut Weights) {}

    /// The deployed integers of the weights as they stand; none for steps without weights.
    fn export(&mut self) -> Option<QuantizedLayer> {
        None
    }

    /// Reads what is not a parameter.
    fn restore(&mut self, _weights: &Weights) {}
}

/// The values of a step with one input, and how they lie.
#[derive(Clone, Copy)]
struct Place {
    from: ValueId,
    to: ValueId,
    input: Layout,
    output: Layout,
    /// Whether a ReLU cuts the result.
    relu: bool,
}

impl Place {
    fn new(plan: &Plan, index: usize) -> Self {
        let step = &plan.exec.program.steps()[index];
        Self {
            from: step.inputs[0],
            to: index + 1,
            input: plan.input(index, 0),
            output: plan.output(index),
            relu: step.epilogue.relu,
        }
    }

    /// Calls `each(input, result)` for every image, both in their layouts; then come ReLU and rounding.
    fn forward(&self, pass: &mut Pass, each: impl Fn(&[f32], &mut [f32]) + Sync) {
        let (input, output, relu) = (self.input, self.output, self.relu);
        let count = pass.count;
        let (x, y) = pass.value_pair(self.from, self.to);
        y[..count * output.image_len]
            .par_chunks_mut(output.image_len)
            .zip(x.par_chunks(input.image_len))
            .for_each(|(y, x)| {
                each(x, y);
                for row in (0..output.h).filter(|_| relu) {
                    let y = &mut y[output.row(0, row)];
                    y.iter_mut().for_each(|y| *y = y.max(0.0));
                }
            });
        pass.quantize(self.to);
    }

    /// Calls `each(input, gradient of the result, gradient of the input)` for every image, the gradients dense: that of the result
    /// before the ReLU, and that of the input to add to.
    fn backward(&self, pass: &mut Pass, each: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) {
        let (input, output, relu) = (self.input, self.output, self.relu);
        pass.quantize_backward(self.to);
        let accumulate = std::mem::replace(&mut pass.written[self.from], true);
        let (earlier, later) = pass.grads.split_at_mut(self.to);
        let [x, y] = [self.from, self.to].map(|value| &pass.values[value]);
        earlier[self.from][..pass.count * input.dense_len()]
            .par_chunks_mut(input.dense_len())
            .zip(later[0].par_chunks_mut(output.dense_len()))
            .zip(x.par_chunks(input.image_len))
            .zip(y.par_chunks(output.image_len))
            .for_each(|(((grad, dy), x), y)| {
                if !accumulate {
                    grad.fill(0.0);
                }
                for row in (0..output.h).filter(|_| relu) {
                    let dy = dy[row * output.row_len()..].iter_mut();
                    let cut = dy.zip(&y[output.row(0, row)]).filter(|(_, y)| **y <= 0.0);
                    cut.for_each(|(dy, _)| *dy = 0.0);
                }
                each(x, dy, grad);
            });
    }
}

/// Taps of a depthwise convolution whose sums fit 32 bits whatever its integers are.
const MOST_TAPS: usize = 255;

/// The table of operators: the trainable form of a step.
pub(super) fn layer(
    plan: &Plan,
    index: usize,
    weights: &Weights,
    isa: Isa,
    qat: Option<&QatConfig>,
) -> Result<Box<dyn Layer>, TrainError> {
    let step = &plan.exec.program.steps()[index];
    let unsupported = |reason: &str| {
        Err(TrainError::Unsupported {
            layer: step.name.clone(),
            reason: reason.into(),
        })
    };
    Ok(match &step.op {
        Op::Conv(conv) if conv.is_depthwise(step.in_shapes[0].c()) => {
            let taps = conv.kernel[0] * conv.kernel[1];
            if qat.is_some() && taps > MOST_TAPS {
                return unsupported("its kernel is too large for quantization-aware training");
            }
            Box::new(conv::Conv::new(plan, index, weights, isa, qat))
        }
        Op::Conv(_) => Box::new(conv::Conv::new(plan, index, weights, isa, qat)),
        Op::Linear(_) if !plan.input(index, 0).is_dense() => {
            return unsupported("its input is also read by a padded convolution");
        }
        // As the convolution over one pixel that it is, which knows what may follow it.
        Op::Linear(_) if step.epilogue.batch_norm.is_some() || step.epilogue.ceiling.is_some() => {
            Box::new(conv::Conv::new(plan, index, weights, isa, qat))
        }
        Op::Linear(_) => Box::new(linear::Linear::new(plan, index, weights, isa, qat)),
        Op::Relu => Box::new(activation::Unary::relu(plan, index)),
        Op::Sigmoid => Box::new(activation::Unary::sigmoid(plan, index)),
        Op::Unary(unary) => Box::new(activation::Unary::of(plan, index, *unary)),
        Op::MaxPool(pool) => Box::new(pool::Pool::max(plan, index, pool)),
        Op::AvgPool(pool) => Box::new(pool::Pool::mean(plan, index, pool)),
        Op::GlobalAvgPool => Box::new(pool::GlobalAvgPool::new(plan, index)),
        Op::Add => Box::new(binary::Add::new(plan, index)),
        Op::Mul => Box::new(binary::Mul::new(plan, index)),
        Op::Concat | Op::ChannelShuffle(_) | Op::Slice(_) => Box::new(
            channels::MoveChannels::new(plan, index).expect("it is one that moves channels"),
        ),
        Op::Softmax => Box::new(per_pixel::PerPixel::softmax(plan, index, isa)),
        Op::LayerNorm(norm) => {
            Box::new(per_pixel::PerPixel::layer_norm(plan, index, norm.eps, isa))
        }
        Op::Attention(attention) => Box::new(attention::Attention::new(plan, index, *attention)),
        Op::Reshape(_) => Box::new(moves::MovePixels::new(plan, index, Move::Reshape)),
        Op::Prefix(prefix) => Box::new(moves::MovePixels::new(plan, index, Move::Prefix(*prefix))),
        Op::Transpose => Box::new(moves::MovePixels::new(plan, index, Move::Transpose)),
        Op::Input | Op::BatchNorm(_) | Op::Flatten => {
            return unsupported("it has no form of its own in training");
        }
    })
}

/// The quantizer of a step's weights, if there is quantization-aware training.
fn weight_state(
    plan: &Plan,
    index: usize,
    latent: &Parameter,
    weights: &Weights,
    qat: Option<&QatConfig>,
) -> Option<WeightState> {
    let config = qat?;
    let bits = config.bits_of(&plan.exec.program, index);
    let name = &plan.exec.program.steps()[index].name;
    Some(WeightState::new(config, bits, name, latent, weights))
}
