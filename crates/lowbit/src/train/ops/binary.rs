//! Functions of two values, with ReLU.

use super::{Layer, Pass};
use crate::graph::Step;
use crate::lower::{Layout, Plan};
use lowbit_kernels::elementwise;
use rayon::prelude::*;
use std::ops::Range;

/// Where the second operand of a row lies: the same for all rows where there is one number per channel.
fn second(layouts: &[Layout; 2], image: usize, row: usize) -> Range<usize> {
    let per_channel = layouts[1].dense_len() != layouts[0].dense_len();
    layouts[1].row(image, if per_channel { 0 } else { row })
}

/// The gradient in front of a ReLU that gave `y`, if there is one. As a closure that borrowed `relu` it kept loops from becoming
/// vectors: a training step of `resnet8` took 1.04 times as long.
#[inline(always)]
fn before_relu(relu: bool, dy: f32, y: f32) -> f32 {
    if relu && y <= 0.0 { 0.0 } else { dy }
}

pub(super) struct Add {
    index: usize,
    step: Step,
}

impl Add {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            index,
            step: plan.exec.program.steps()[index].clone(),
        }
    }
}

impl Layer for Add {
    fn forward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        let isa = pass.isa;
        let inputs = [0, 1].map(|which| pass.plan.input(self.index, which));
        let output = pass.plan.layouts[to];
        let (earlier, later) = pass.values.split_at_mut(to);
        let [a, b] = [0, 1].map(|which| &earlier[self.step.inputs[which]]);
        let relu = self.step.epilogue.relu;
        later[0][..pass.count * output.image_len]
            .par_chunks_mut(output.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                for row in 0..output.h {
                    let a = &a[inputs[0].row(image, row)];
                    let b = &b[second(&inputs, image, row)];
                    let out = &mut out[output.row(0, row)];
                    let parts = a.chunks_exact(b.len()).zip(out.chunks_exact_mut(b.len()));
                    parts.for_each(|(a, out)| elementwise::add_f32(isa, a, b, relu, out));
                }
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        pass.quantize_backward(to);
        let inputs = [0, 1].map(|which| pass.plan.input(self.index, which));
        let layout = pass.plan.layouts[to];
        let row_len = layout.row_len();
        let (earlier, later) = pass.grads.split_at_mut(to);
        let (value, relu) = (&pass.values[to], self.step.epilogue.relu);
        let dys = &later[0][..pass.count * layout.dense_len()];
        for (&from, input) in self.step.inputs.iter().zip(&inputs) {
            let own = input.dense_len();
            let grads = &mut earlier[from][..pass.count * own];
            let accumulate = std::mem::replace(&mut pass.written[from], true);
            if own == layout.dense_len() {
                let rows = grads.par_chunks_mut(row_len).zip(dys.par_chunks(row_len));
                rows.enumerate().for_each(|(row, (grad, dy))| {
                    let y = &value[layout.row(row / layout.h, row % layout.h)];
                    for ((grad, &dy), &y) in grad.iter_mut().zip(dy).zip(y) {
                        let passed = before_relu(relu, dy, y);
                        *grad = if accumulate { *grad + passed } else { passed };
                    }
                });
                continue;
            }
            // One summand per channel is that of every pixel.
            if !accumulate {
                grads.fill(0.0);
            }
            let images = grads
                .chunks_exact_mut(own)
                .zip(dys.chunks_exact(layout.dense_len()));
            for (image, (grads, dys)) in images.enumerate() {
                for (row, dys) in dys.chunks_exact(row_len).enumerate() {
                    let y = &value[layout.row(image, row)];
                    for (dys, y) in dys.chunks_exact(own).zip(y.chunks_exact(own)) {
                        for ((grad, &dy), &y) in grads.iter_mut().zip(dys).zip(y) {
                            *grad += before_relu(relu, dy, y);
                        }
                    }
                }
            }
        }
    }
}

pub(super) struct Mul {
    index: usize,
    step: Step,
}

impl Mul {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            index,
            step: plan.exec.program.steps()[index].clone(),
        }
    }
}

impl Layer for Mul {
    fn forward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        let isa = pass.isa;
        let inputs = [0, 1].map(|which| pass.plan.input(self.index, which));
        let output = pass.plan.layouts[to];
        let (earlier, later) = pass.values.split_at_mut(to);
        let [a, b] = [0, 1].map(|which| &earlier[self.step.inputs[which]]);
        for image in 0..pass.count {
            for row in 0..output.h {
                let a = &a[inputs[0].row(image, row)];
                let b = &b[second(&inputs, image, row)];
                let out = &mut later[0][output.row(image, row)];
                elementwise::mul_f32(isa, a, b, out);
                if self.step.epilogue.relu {
                    out.iter_mut().for_each(|y| *y = y.max(0.0));
                }
            }
        }
        pass.quantize(to);
    }

    /// `∂(a·b)/∂a = b` and `∂(a·b)/∂b = a`, summed over the pixels where a factor serves all of them.
    fn backward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        pass.quantize_backward(to);
        let inputs = [0, 1].map(|which| pass.plan.input(self.index, which));
        let output = pass.plan.layouts[to];
        let relu = self.step.epilogue.relu;
        for which in [0, 1] {
            let from = self.step.inputs[which];
            let own = inputs[which].dense_len();
            let (earlier, later) = pass.grads.split_at_mut(to);
            let grads = &mut earlier[from][..pass.count * own];
            if !std::mem::replace(&mut pass.written[from], true) {
                grads.fill(0.0);
            }
            let other = &pass.values[self.step.inputs[1 - which]];
            for image in 0..pass.count {
                for row in 0..output.h {
                    let at = image * output.dense_len() + row * output.row_len();
                    let dy = &later[0][at..][..output.row_len()];
                    let y = &pass.values[to][output.row(image, row)];
                    let other = match which {
                        0 => &other[second(&inputs, image, row)],
                        _ => &other[inputs[0].row(image, row)],
                    };
                    let within = (row * output.row_len()) % own;
                    let grads = &mut grads[image * own + within..];
                    let period = output.row_len().min(own);
                    for (at, (&dy, &y)) in dy.iter().zip(y).enumerate() {
                        if !relu || y > 0.0 {
                            grads[at % period] += dy * other[at % other.len()];
                        }
                    }
                }
            }
        }
    }
}
