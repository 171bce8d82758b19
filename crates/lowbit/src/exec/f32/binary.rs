//! Functions of two inputs' elements.

use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};
use lowbit_kernels::{Isa, elementwise};

pub(super) struct Add {
    inputs: [Layout; 2],
    output: Layout,
    relu: bool,
    isa: Isa,
}

impl Add {
    pub(super) fn new(plan: &Plan, index: usize, relu: bool, isa: Isa) -> Self {
        Self {
            inputs: [plan.input(index, 0), plan.input(index, 1)],
            output: plan.output(index),
            relu,
            isa,
        }
    }
}

impl Kernel for Add {
    fn run(&self, call: Call<'_>) {
        let (a, b) = (call.inputs.f32(0), call.inputs.f32(1));
        let out = call.out.f32();
        let per_channel = self.inputs[1].dense_len() != self.inputs[0].dense_len();
        for image in 0..call.images {
            for y in 0..self.output.h {
                let a = &a[self.inputs[0].row(image, y)];
                let b = &b[self.inputs[1].row(image, if per_channel { 0 } else { y })];
                let out = &mut out[out_row(&self.output, image, y)];
                elementwise::add_f32(self.isa, a, b, self.relu, out);
            }
        }
    }
}

pub(super) struct Mul {
    inputs: [Layout; 2],
    output: Layout,
    relu: bool,
    isa: Isa,
}

impl Mul {
    pub(super) fn new(plan: &Plan, index: usize, relu: bool, isa: Isa) -> Self {
        Self {
            inputs: [plan.input(index, 0), plan.input(index, 1)],
            output: plan.output(index),
            relu,
            isa,
        }
    }
}

impl Kernel for Mul {
    fn run(&self, call: Call<'_>) {
        let (a, b) = (call.inputs.f32(0), call.inputs.f32(1));
        let out = call.out.f32();
        let per_channel = self.inputs[1].dense_len() != self.inputs[0].dense_len();
        for image in 0..call.images {
            for y in 0..self.output.h {
                let a = &a[self.inputs[0].row(image, y)];
                let b = &b[self.inputs[1].row(image, if per_channel { 0 } else { y })];
                let out = &mut out[out_row(&self.output, image, y)];
                elementwise::mul_f32(self.isa, a, b, out);
                if self.relu {
                    out.iter_mut().for_each(|x| *x = x.max(0.0));
                }
            }
        }
    }
}
