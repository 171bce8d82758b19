//! Functions of one element, in f32 arithmetic that every instruction set does alike; what has no fast form is computed in
//! f64 and rounded once.

use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};
use crate::ops;
use lowbit_kernels::Isa;
use lowbit_kernels::elementwise::{map_f32, normal_f32, sigmoid_f32};

/// A function of each element of a row: instruction set, row, results.
pub(crate) type RowFunction = Box<dyn Fn(Isa, &[f32], &mut [f32]) + Send + Sync>;

/// A function of a row that does the same to each element.
pub(crate) fn per_element(function: impl Fn(f32) -> f32 + Send + Sync + 'static) -> RowFunction {
    Box::new(move |isa, from, out| map_f32(isa, from, out, &function))
}

pub(super) struct Unary {
    input: Layout,
    output: Layout,
    relu: bool,
    isa: Isa,
    function: RowFunction,
}

impl Unary {
    pub(super) fn new(plan: &Plan, index: usize, isa: Isa, function: RowFunction) -> Self {
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

impl Kernel for Unary {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        for image in 0..call.images {
            for y in call.rows.clone() {
                let out = &mut out[out_row(&self.output, image, y - call.rows.start)];
                (self.function)(self.isa, &input[self.input.row(image, y)], out);
                if self.relu {
                    out.iter_mut().for_each(|y| *y = y.max(0.0));
                }
            }
        }
    }
}

/// The table of functions.
pub(crate) fn unary(unary: ops::Unary) -> RowFunction {
    match unary {
        ops::Unary::Clip { min, max } => per_element(move |x: f32| x.max(min).min(max)),
        ops::Unary::HardSigmoid { alpha, beta } => {
            per_element(move |x: f32| x.mul_add(alpha, beta).clamp(0.0, 1.0))
        }
        ops::Unary::HardSwish => {
            per_element(|x: f32| x * x.mul_add(1.0 / 6.0, 0.5).clamp(0.0, 1.0))
        }
        ops::Unary::Silu => per_element(|x: f32| x * sigmoid_f32(x)),
        ops::Unary::LeakyRelu { slope } => {
            per_element(move |x: f32| if x > 0.0 { x } else { slope * x })
        }
        ops::Unary::Gelu { tanh: false } => per_element(|x: f32| x * normal_f32(x)),
        // ½·(1 + tanh(u)) = sigmoid(2u).
        ops::Unary::Gelu { tanh: true } => {
            const SLOPE: f32 = 1.595_769;
            per_element(|x: f32| x * sigmoid_f32(SLOPE * x * (x * x).mul_add(0.044_715, 1.0)))
        }
        ops::Unary::Tanh | ops::Unary::Elu { .. } => {
            per_element(move |x: f32| unary.value(f64::from(x)) as f32)
        }
    }
}
