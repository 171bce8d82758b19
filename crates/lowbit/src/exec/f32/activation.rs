//! Functions of one element.

use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};

/// `1 / (1 + exp(−x))`, computed in f64 and rounded once: the same bits whatever the instruction set.
pub(super) fn sigmoid(x: f32) -> f32 {
    crate::ops::sigmoid(f64::from(x)) as f32
}

pub(super) struct Unary<F> {
    input: Layout,
    output: Layout,
    relu: bool,
    function: F,
}

impl<F: Fn(f32) -> f32> Unary<F> {
    pub(super) fn new(plan: &Plan, index: usize, function: F) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            relu: layer.epilogue.relu,
            function,
        }
    }
}

impl<F: Fn(f32) -> f32 + Send + Sync> Kernel for Unary<F> {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        for image in 0..call.images {
            for y in 0..self.output.h {
                let from = &input[self.input.row(image, y)];
                for (out, &x) in out[out_row(&self.output, image, y)].iter_mut().zip(from) {
                    let result = (self.function)(x);
                    *out = if self.relu { result.max(0.0) } else { result };
                }
            }
        }
    }
}
