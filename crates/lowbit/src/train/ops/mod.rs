//! The kinds of blocks in training: forward and backward side by side, one file each.

mod add;
mod conv;
mod elementwise;
mod linear;
mod pool;

use super::TrainError;
use super::parameter::Parameter;
use super::pass::Pass;
use crate::Weights;
use crate::graph::BlockKind;
use crate::runtime::plan::Plan;
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

    /// Reads what is not a parameter.
    fn restore(&mut self, _weights: &Weights) {}
}

pub(super) fn layer(
    plan: &Plan,
    index: usize,
    weights: &Weights,
    isa: Isa,
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
        BlockKind::Conv { .. } => Box::new(conv::Conv::new(plan, index, weights, isa)),
        BlockKind::Linear if block.batch_norm.is_some() => {
            return unsupported("batch-norm behind a linear layer cannot be trained");
        }
        BlockKind::Linear => Box::new(linear::Linear::new(plan, index, weights, isa)),
        BlockKind::Add => Box::new(add::Add::new(plan, index)),
        BlockKind::GlobalAvgPool => Box::new(pool::GlobalAvgPool::new(plan, index)),
        BlockKind::Elementwise => Box::new(elementwise::Elementwise::new(plan, index)),
    })
}
