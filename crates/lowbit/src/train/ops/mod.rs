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
}

impl Place {
    fn new(plan: &Plan, index: usize) -> Self {
        Self {
            from: plan.exec.program.steps()[index].inputs[0],
            to: index + 1,
            input: plan.input(index, 0),
            output: plan.output(index),
        }
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
        Op::Softmax => Box::new(per_pixel::PerPixel::softmax(plan, index)),
        Op::LayerNorm(norm) => Box::new(per_pixel::PerPixel::layer_norm(plan, index, norm.eps)),
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
