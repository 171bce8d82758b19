//! Fusions, one file each: rewrites that let a step take up the node behind it, where that node alone reads its result.

mod activation;
mod batch_norm;
mod clip;
mod max_pool;

use super::program::Step;
use crate::graph::Node;
use crate::shape::Shape;

/// Takes up the node, whose result has the shape, or leaves the step as it is and says so.
type Fusion = fn(&mut Step, &Node, Shape) -> bool;

const FUSIONS: [Fusion; 4] = [
    batch_norm::into_product,
    activation::relu_into_any,
    clip::into_product,
    max_pool::into_convolution,
];

pub(super) fn absorb(step: &mut Step, node: &Node, result: Shape) -> bool {
    FUSIONS.iter().any(|fusion| fusion(step, node, result))
}
