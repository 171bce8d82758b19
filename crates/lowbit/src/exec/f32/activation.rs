//! Functions of one element, in f32 arithmetic that every instruction set does alike; what has no fast form is computed in
//! f64 and rounded once.

use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};
use crate::ops;
use lowbit_kernels::Isa;
use lowbit_kernels::elementwise::{map_f32, normal_f32, sigmoid_f32};

pub(super) struct Unary<F> {
    input: Layout,
    output: Layout,
    relu: bool,
    isa: Isa,
    function: F,
}

impl<F: Fn(f32) -> f32> Unary<F> {
    pub(super) fn new(plan: &Plan, index: usize, isa: Isa, function: F) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            relu: layer.epilogue.relu,
            isa,
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
                let out = &mut out[out_row(&self.output, image, y)];
                match self.relu {
                    true => map_f32(self.isa, from, out, |x| (self.function)(x).max(0.0)),
                    false => map_f32(self.isa, from, out, &self.function),
                }
            }
        }
    }
}

/// The table of functions.
pub(super) fn unary(plan: &Plan, index: usize, isa: Isa, unary: ops::Unary) -> Box<dyn Kernel> {
    macro_rules! of {
        ($function:expr) => {
            Box::new(Unary::new(plan, index, isa, $function))
        };
    }
    match unary {
        ops::Unary::Clip { min, max } => of!(move |x: f32| x.max(min).min(max)),
        ops::Unary::HardSigmoid { alpha, beta } => {
            of!(move |x: f32| x.mul_add(alpha, beta).clamp(0.0, 1.0))
        }
        ops::Unary::HardSwish => of!(|x: f32| x * x.mul_add(1.0 / 6.0, 0.5).clamp(0.0, 1.0)),
        ops::Unary::Silu => of!(|x: f32| x * sigmoid_f32(x)),
        ops::Unary::LeakyRelu { slope } => of!(move |x: f32| if x > 0.0 { x } else { slope * x }),
        ops::Unary::Gelu { tanh: false } => of!(|x: f32| x * normal_f32(x)),
        // ½·(1 + tanh(u)) = sigmoid(2u).
        ops::Unary::Gelu { tanh: true } => {
            const SLOPE: f32 = 1.595_769;
            of!(|x: f32| x * sigmoid_f32(SLOPE * x * (x * x).mul_add(0.044_715, 1.0)))
        }
        ops::Unary::Tanh | ops::Unary::Elu { .. } => {
            of!(move |x: f32| unary.value(f64::from(x)) as f32)
        }
    }
}
