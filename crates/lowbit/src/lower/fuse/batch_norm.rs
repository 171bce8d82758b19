//! Batch-norm right behind a convolution or linear layer, over the same channels: it folds into the weights.

use crate::graph::Node;
use crate::lower::program::{BatchNormRef, Step};
use crate::ops::Op;
use crate::shape::Shape;

pub(super) fn into_product(step: &mut Step, node: &Node, result: Shape) -> bool {
    let Op::BatchNorm(norm) = node.op else {
        return false;
    };
    let epilogue = &mut step.epilogue;
    let is_first = epilogue.batch_norm.is_none() && !epilogue.relu && !epilogue.max_pool;
    // A flatten in between would give every pixel its own channels.
    let fits = matches!(step.op, Op::Conv(_) | Op::Linear(_)) && result == step.out_shape;
    if !(fits && is_first) {
        return false;
    }
    epilogue.batch_norm = Some(BatchNormRef {
        name: node.name.clone(),
        eps: norm.eps,
        momentum: norm.momentum,
    });
    true
}
