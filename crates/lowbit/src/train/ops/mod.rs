//! The kinds of blocks in training: forward and backward side by side, one file each.

mod add;
mod conv;
mod elementwise;
mod linear;
mod normalization;
mod pool;

use super::TrainError;
use super::parameter::Parameter;
use super::pass::Pass;
use crate::Weights;
use crate::graph::BlockKind;
use crate::quant::QuantizedLayer;
use crate::runtime::plan::Plan;
use crate::train::QatConfig;
use crate::train::qat::WeightState;
use lowbit_kernels::Isa;

/// A block in training.
pub(super) trait Layer: Send {
    /// Computes the block's value from its inputs.
    fn forward(&mut self, pass: &mut Pass);

    /// Computes the gradients of the block's parameters and inputs from that of its value.
    fn backward(&mut self, pass: &mut Pass);

    /// What the optimizer changes.
    fn parameters(&mut self) -> Vec<&mut Parameter> {
        Vec::new()
    }

    /// Writes parameters and statistics.
    fn save(&self, _weights: &mut Weights) {}

    /// The deployed integers of the weights as they stand; none for blocks without weights.
    fn export(&mut self) -> Option<QuantizedLayer> {
        None
    }

    /// Reads what is not a parameter.
    fn restore(&mut self, _weights: &Weights) {}
}

pub(super) fn layer(
    plan: &Plan,
    index: usize,
    weights: &Weights,
    isa: Isa,
    qat: Option<&QatConfig>,
) -> Result<Box<dyn Layer>, TrainError> {
    let block = &plan.blocks.list()[index];
    let unsupported = |reason: &str| {
        Err(TrainError::Unsupported {
            layer: block.name.clone(),
            reason: reason.into(),
        })
    };
    Ok(match block.kind {
        BlockKind::Conv { .. } if index + 1 == plan.blocks.list().len() => {
            return unsupported("a convolution cannot be the last layer in training");
        }
        BlockKind::Conv {
            kernel, padding, ..
        } if padding >= kernel => {
            return unsupported("padding must be smaller than the kernel in training");
        }
        BlockKind::Conv { .. } => Box::new(conv::Conv::new(plan, index, weights, isa, qat)),
        BlockKind::Linear if block.batch_norm.is_some() => {
            return unsupported("batch-norm behind a linear layer cannot be trained");
        }
        BlockKind::Linear => Box::new(linear::Linear::new(plan, index, weights, isa, qat)),
        BlockKind::Add => Box::new(add::Add::new(plan, index)),
        BlockKind::GlobalAvgPool => Box::new(pool::GlobalAvgPool::new(plan, index)),
        BlockKind::Elementwise => Box::new(elementwise::Elementwise::new(plan, index)),
    })
}

/// The quantizer of a block's weights, if there is quantization-aware training.
fn weight_state(
    plan: &Plan,
    index: usize,
    latent: &Parameter,
    weights: &Weights,
    qat: Option<&QatConfig>,
) -> Option<WeightState> {
    let config = qat?;
    let bits = config.bits_of(&plan.blocks, index);
    let name = &plan.blocks.list()[index].name;
    Some(WeightState::new(config, bits, name, latent, weights))
}
