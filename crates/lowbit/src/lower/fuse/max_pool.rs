//! A 2×2 max-pool behind a convolution: the kernels store the largest of each window.

use crate::graph::Node;
use crate::lower::program::Step;
use crate::ops::Op;
use crate::shape::Shape;

pub(super) fn into_convolution(step: &mut Step, node: &Node, result: Shape) -> bool {
    let (Op::MaxPool(pool), Op::Conv(conv)) = (node.op, step.op) else {
        return false;
    };
    // A reshape in between would make other windows.
    let image = step.out_shape;
    let fits = [image.h() / 2, image.w() / 2, image.c()] == [result.h(), result.w(), result.c()];
    if !pool.is_2x2() || !conv.is_plain() || step.epilogue.max_pool || !fits {
        return false;
    }
    step.epilogue.max_pool = true;
    step.out_shape = result;
    true
}
