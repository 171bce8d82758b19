//! ReLU behind any operator: every one cuts its result anyway. Behind a pool it is the same as before it.

use crate::graph::Node;
use crate::lower::program::Step;
use crate::ops::Op;
use crate::shape::Shape;

pub(super) fn relu_into_any(step: &mut Step, node: &Node, _result: Shape) -> bool {
    let is_relu = node.op == Op::Relu;
    step.epilogue.relu |= is_relu;
    is_relu
}
