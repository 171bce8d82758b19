//! Functions of one element that stand alone, with ReLU.

use super::{Layer, Pass, Place};
use crate::exec::{Rows, rows, unary};
use crate::lower::Plan;
use crate::ops;
use lowbit_kernels::elementwise::{exp_f32, normal_f32, sigmoid_f32};
use rayon::prelude::*;

pub(super) struct Unary {
    place: Place,
    relu: bool,
    function: Rows,
    derivative: Rows,
}

/// The table of derivatives: of what is smooth in f32, else in f64 and rounded once.
fn derivative(unary: ops::Unary) -> Rows {
    match unary {
        ops::Unary::HardSwish => rows(|x: f32| match x {
            x if x <= -3.0 => 0.0,
            x if x >= 3.0 => 1.0,
            x => x.mul_add(1.0 / 3.0, 0.5),
        }),
        ops::Unary::Silu => rows(|x: f32| {
            let s = sigmoid_f32(x);
            s * x.mul_add(1.0 - s, 1.0)
        }),
        ops::Unary::Gelu { tanh: false } => rows(|x: f32| {
            // 1/√(2π).
            const DENSITY: f32 = 0.398_942_3;
            (DENSITY * x).mul_add(exp_f32(-0.5 * x * x), normal_f32(x))
        }),
        ops::Unary::Gelu { tanh: true } => rows(|x: f32| {
            // With u = √(2/π)·(x + 0.044715·x³), ½·(1 + tanh(u)) = sigmoid(2u).
            const SLOPE: f32 = 1.595_769;
            let s = sigmoid_f32(SLOPE * x * (x * x).mul_add(0.044_715, 1.0));
            let inner = SLOPE * (x * x).mul_add(3.0 * 0.044_715, 1.0);
            s * (x * (1.0 - s)).mul_add(inner, 1.0)
        }),
        ops::Unary::Clip { .. }
        | ops::Unary::HardSigmoid { .. }
        | ops::Unary::LeakyRelu { .. }
        | ops::Unary::Tanh
        | ops::Unary::Elu { .. } => rows(move |x| unary.derivative(f64::from(x)) as f32),
    }
}

impl Unary {
    pub(super) fn relu(plan: &Plan, index: usize) -> Self {
        let derivative = rows(|x| if x > 0.0 { 1.0 } else { 0.0 });
        Self::new(plan, index, [rows(|x| x.max(0.0)), derivative])
    }

    pub(super) fn sigmoid(plan: &Plan, index: usize) -> Self {
        let derivative = rows(|x| {
            let y = sigmoid_f32(x);
            y * (1.0 - y)
        });
        Self::new(plan, index, [rows(sigmoid_f32), derivative])
    }

    pub(super) fn of(plan: &Plan, index: usize, of: ops::Unary) -> Self {
        Self::new(plan, index, [unary(of), derivative(of)])
    }

    fn new(plan: &Plan, index: usize, [function, derivative]: [Rows; 2]) -> Self {
        Self {
            place: Place::new(plan, index),
            relu: plan.exec.program.steps()[index].epilogue.relu,
            function,
            derivative,
        }
    }
}

impl Layer for Unary {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (input, output) = (self.place.input, self.place.output);
        let (isa, count, relu) = (pass.isa, pass.count, self.relu);
        let (x, y) = pass.value_pair(from, to);
        y[..count * output.image_len]
            .par_chunks_mut(output.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                for row in 0..output.h {
                    let out = &mut out[output.row(0, row)];
                    (self.function)(isa, &x[input.row(image, row)], out);
                    if relu {
                        out.iter_mut().for_each(|y| *y = y.max(0.0));
                    }
                }
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (input, output) = (self.place.input, self.place.output);
        pass.quantize_backward(to);
        let (isa, count, relu) = (pass.isa, pass.count, self.relu);
        let accumulate = std::mem::replace(&mut pass.written[from], true);
        let (earlier, later) = pass.grads.split_at_mut(to);
        let (dense, len, values) = (output.dense_len(), output.row_len(), &pass.values);
        earlier[from][..count * dense]
            .par_chunks_mut(dense)
            .zip(later[0].par_chunks(dense))
            .enumerate()
            .for_each(|(image, (grads, dys))| {
                // From the input: the result may have been rounded since.
                let mut slopes = vec![0.0; len];
                let rows = grads.chunks_exact_mut(len).zip(dys.chunks_exact(len));
                for (row, (grads, dys)) in rows.enumerate() {
                    let x = &values[from][input.row(image, row)];
                    let y = &values[to][output.row(image, row)];
                    (self.derivative)(isa, x, &mut slopes);
                    for (((grad, &dy), &slope), &y) in grads.iter_mut().zip(dys).zip(&slopes).zip(y)
                    {
                        let is_cut = relu && y <= 0.0;
                        let passed = if is_cut { 0.0 } else { dy * slope };
                        *grad = if accumulate { *grad + passed } else { passed };
                    }
                }
            });
    }
}
