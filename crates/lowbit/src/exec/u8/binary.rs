//! Functions of two inputs' elements.

use super::StepParams;
use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};
use crate::quant::{Arithmetic, ratio};
use lowbit_kernels::Isa;
use lowbit_kernels::elementwise::{self, AddU8, MulU8, SumU8};

pub(super) struct Add {
    inputs: [Layout; 2],
    output: Layout,
    sum: Sum,
    isa: Isa,
}

/// The two definitions of a sum.
enum Sum {
    Centered(AddU8),
    Offset(SumU8),
}

impl Add {
    pub(super) fn new(plan: &Plan, index: usize, params: &StepParams, isa: Isa) -> Self {
        let [a, b] = [params.inputs[0], params.inputs[1]];
        let (output, [low, high]) = (params.output, params.bounds);
        Self {
            inputs: [plan.input(index, 0), plan.input(index, 1)],
            output: plan.output(index),
            sum: match params.arithmetic {
                Arithmetic::RealBias => Sum::Centered(AddU8 {
                    zero_point_a: a.zero_point,
                    multiplier_a: ratio(a, output),
                    zero_point_b: b.zero_point,
                    multiplier_b: ratio(b, output),
                    zero_point: output.zero_point,
                    low,
                    high,
                }),
                Arithmetic::IntegerBias => Sum::Offset(SumU8 {
                    multiplier_a: ratio(a, output),
                    multiplier_b: ratio(b, output),
                    offset: {
                        let of_b = ratio(b, output) * f32::from(b.zero_point);
                        let zeros = f32::from(a.zero_point).mul_add(ratio(a, output), of_b);
                        f32::from(output.zero_point) - zeros
                    },
                    low,
                    high,
                }),
            },
            isa,
        }
    }
}

impl Kernel for Add {
    fn run(&self, call: Call<'_>) {
        let (a, b) = (call.inputs.u8(0), call.inputs.u8(1));
        let out = call.out.u8();
        let per_channel = self.inputs[1].dense_len() != self.inputs[0].dense_len();
        for image in 0..call.images {
            for y in 0..self.output.h {
                let a = &a[self.inputs[0].row(image, y)];
                let b = &b[self.inputs[1].row(image, if per_channel { 0 } else { y })];
                let out = &mut out[out_row(&self.output, image, y)];
                match &self.sum {
                    Sum::Centered(sum) => elementwise::add_u8(self.isa, a, b, sum, out),
                    Sum::Offset(sum) => elementwise::sum_u8(self.isa, a, b, sum, out),
                }
            }
        }
    }
}

pub(super) struct Mul {
    inputs: [Layout; 2],
    output: Layout,
    product: MulU8,
    isa: Isa,
}

impl Mul {
    pub(super) fn new(plan: &Plan, index: usize, params: &StepParams, isa: Isa) -> Self {
        let [a, b] = [params.inputs[0], params.inputs[1]];
        let (output, [low, high]) = (params.output, params.bounds);
        Self {
            inputs: [plan.input(index, 0), plan.input(index, 1)],
            output: plan.output(index),
            product: MulU8 {
                zero_point_a: a.zero_point,
                zero_point_b: b.zero_point,
                multiplier: params.arithmetic.product_ratio(a, b, output),
                zero_point: output.zero_point,
                low,
                high,
            },
            isa,
        }
    }
}

impl Kernel for Mul {
    fn run(&self, call: Call<'_>) {
        let (a, b) = (call.inputs.u8(0), call.inputs.u8(1));
        let out = call.out.u8();
        let per_channel = self.inputs[1].dense_len() != self.inputs[0].dense_len();
        for image in 0..call.images {
            for y in 0..self.output.h {
                let a = &a[self.inputs[0].row(image, y)];
                let b = &b[self.inputs[1].row(image, if per_channel { 0 } else { y })];
                let out = &mut out[out_row(&self.output, image, y)];
                elementwise::mul_u8(self.isa, a, b, &self.product, out);
            }
        }
    }
}
