//! Functions of one element that stand alone.

use super::{Layer, Pass, Place};
use crate::graph::Step;
use crate::lower::Plan;
use crate::ops;

pub(super) struct Unary {
    place: Place,
    step: Step,
    function: Box<dyn Fn(f32) -> f32 + Send>,
    /// The derivative, from input and result.
    derivative: Box<dyn Fn(f32, f32) -> f32 + Send>,
}

impl Unary {
    pub(super) fn relu(plan: &Plan, index: usize) -> Self {
        let derivative = |_, y| f32::from(u8::from(y > 0.0));
        Self::new(plan, index, |x| x.max(0.0), derivative)
    }

    pub(super) fn sigmoid(plan: &Plan, index: usize) -> Self {
        let sigmoid = |x: f32| crate::ops::sigmoid(f64::from(x)) as f32;
        // From the input: the result may have been rounded since.
        let derivative = |x: f32, _| {
            let y = crate::ops::sigmoid(f64::from(x));
            (y * (1.0 - y)) as f32
        };
        Self::new(plan, index, sigmoid, derivative)
    }

    pub(super) fn of(plan: &Plan, index: usize, unary: ops::Unary) -> Self {
        let function = move |x: f32| unary.value(f64::from(x)) as f32;
        let derivative = move |x: f32, _| unary.derivative(f64::from(x)) as f32;
        Self::new(plan, index, function, derivative)
    }

    fn new(
        plan: &Plan,
        index: usize,
        function: impl Fn(f32) -> f32 + Send + 'static,
        derivative: impl Fn(f32, f32) -> f32 + Send + 'static,
    ) -> Self {
        Self {
            place: Place::new(plan, index),
            step: plan.exec.program.steps()[index].clone(),
            function: Box::new(function),
            derivative: Box::new(derivative),
        }
    }
}

impl Layer for Unary {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (input, output) = (self.place.input, self.place.output);
        let relu = self.step.epilogue.relu;
        let count = pass.count;
        let (x, y) = pass.value_pair(from, to);
        for (image, row) in self.place.rows(count) {
            let x = &x[input.row(image, row)];
            for (y, &x) in y[output.row(image, row)].iter_mut().zip(x) {
                let result = (self.function)(x);
                *y = if relu { result.max(0.0) } else { result };
            }
        }
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (input, output) = (self.place.input, self.place.output);
        pass.quantize_backward(to);
        let relu = self.step.epilogue.relu;
        let accumulate = std::mem::replace(&mut pass.written[from], true);
        let (earlier, later) = pass.grads.split_at_mut(to);
        for (image, row) in self.place.rows(pass.count) {
            let x = &pass.values[from][input.row(image, row)];
            let y = &pass.values[to][output.row(image, row)];
            let len = output.row_len();
            let at = (image * output.h + row) * len;
            let (grads, dys) = (&mut earlier[from][at..][..len], &later[0][at..][..len]);
            for (((grad, &dy), &x), &y) in grads.iter_mut().zip(dys).zip(x).zip(y) {
                let is_cut = relu && y <= 0.0;
                let passed = if is_cut {
                    0.0
                } else {
                    dy * (self.derivative)(x, y)
                };
                *grad = if accumulate { *grad + passed } else { passed };
            }
        }
    }
}
