//! Functions of one element that stand alone, with ReLU.

use super::{Layer, Pass, Place};
use crate::exec::{RowFunction, per_element, unary};
use crate::lower::Plan;
use crate::ops;
use lowbit_kernels::elementwise::{exp_f32, normal_f32, sigmoid_f32};

pub(super) struct Unary {
    place: Place,
    function: RowFunction,
    derivative: RowFunction,
}

/// The table of derivatives: of what is smooth in f32, else in f64 and rounded once.
fn derivative(unary: ops::Unary) -> RowFunction {
    match unary {
        ops::Unary::HardSwish => per_element(|x: f32| match x {
            x if x <= -3.0 => 0.0,
            x if x >= 3.0 => 1.0,
            x => x.mul_add(1.0 / 3.0, 0.5),
        }),
        ops::Unary::Silu => per_element(|x: f32| {
            let s = sigmoid_f32(x);
            s * x.mul_add(1.0 - s, 1.0)
        }),
        ops::Unary::Gelu { tanh: false } => per_element(|x: f32| {
            // 1/√(2π).
            const DENSITY: f32 = 0.398_942_3;
            (DENSITY * x).mul_add(exp_f32(-0.5 * x * x), normal_f32(x))
        }),
        ops::Unary::Gelu { tanh: true } => per_element(|x: f32| {
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
        | ops::Unary::Elu { .. } => per_element(move |x| unary.derivative(f64::from(x)) as f32),
    }
}

impl Unary {
    pub(super) fn relu(plan: &Plan, index: usize) -> Self {
        let derivative = per_element(|x| if x > 0.0 { 1.0 } else { 0.0 });
        Self::new(plan, index, [per_element(|x| x.max(0.0)), derivative])
    }

    pub(super) fn sigmoid(plan: &Plan, index: usize) -> Self {
        let derivative = per_element(|x| {
            let y = sigmoid_f32(x);
            y * (1.0 - y)
        });
        Self::new(plan, index, [per_element(sigmoid_f32), derivative])
    }

    pub(super) fn of(plan: &Plan, index: usize, of: ops::Unary) -> Self {
        Self::new(plan, index, [unary(of), derivative(of)])
    }

    fn new(plan: &Plan, index: usize, [function, derivative]: [RowFunction; 2]) -> Self {
        Self {
            place: Place::new(plan, index),
            function,
            derivative,
        }
    }
}

impl Layer for Unary {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { input, output, .. } = self.place;
        let isa = pass.isa;
        self.place.forward(pass, |x, y| {
            for row in 0..output.h {
                let y = &mut y[output.row(0, row)];
                (self.function)(isa, &x[input.row(0, row)], y);
            }
        });
    }

    /// From the input: the result may have been rounded since.
    fn backward(&mut self, pass: &mut Pass) {
        let (input, isa) = (self.place.input, pass.isa);
        self.place.backward(pass, |x, dy, grad| {
            let len = input.row_len();
            let mut slopes = vec![0.0; len];
            let rows = grad.chunks_exact_mut(len).zip(dy.chunks_exact(len));
            for (row, (grad, dy)) in rows.enumerate() {
                (self.derivative)(isa, &x[input.row(0, row)], &mut slopes);
                let terms = dy.iter().zip(&slopes).map(|(dy, slope)| dy * slope);
                grad.iter_mut().zip(terms).for_each(|(sum, x)| *sum += x);
            }
        });
    }
}
