//! A clip to `[0, ceiling]` right behind a product, as ReLU6 is one: its kernels cut their results at both ends.

use crate::graph::Node;
use crate::lower::program::Step;
use crate::ops::{Op, Unary};
use crate::shape::Shape;

pub(super) fn into_product(step: &mut Step, node: &Node, _result: Shape) -> bool {
    let Op::Unary(Unary::Clip { min: 0.0, max }) = node.op else {
        return false;
    };
    let is_product = matches!(step.op, Op::Conv(_) | Op::Linear(_));
    if !is_product || step.epilogue.max_pool || step.epilogue.ceiling.is_some() {
        return false;
    }
    step.epilogue.relu = true;
    step.epilogue.ceiling = Some(max);
    true
}
