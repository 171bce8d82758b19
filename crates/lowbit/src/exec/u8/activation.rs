//! Functions of one element: tables of 256 bytes, built in f64.

use super::StepParams;
use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};
use crate::quant::{move_to_grid, ratio, table};
use lowbit_kernels::{Isa, elementwise};

pub(super) struct Table {
    input: Layout,
    output: Layout,
    table: [u8; 256],
    isa: Isa,
}

impl Table {
    fn new(plan: &Plan, index: usize, table: [u8; 256], isa: Isa) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            table,
            isa,
        }
    }

    /// A function of real numbers, rounded once.
    pub(super) fn of(
        plan: &Plan,
        index: usize,
        params: &StepParams,
        isa: Isa,
        function: fn(f64) -> f64,
    ) -> Self {
        let table = table(params.inputs[0], params.output, params.bounds, function);
        Self::new(plan, index, table, isa)
    }

    /// The input on the result's grid, cut at its zero point.
    pub(super) fn relu(plan: &Plan, index: usize, params: &StepParams, isa: Isa) -> Self {
        let (from, to) = (params.inputs[0], params.output);
        let (multiplier, bounds) = (ratio(from, to), [to.zero_point, params.bounds[1]]);
        let level = |q: usize| move_to_grid(q as u8, from, to, multiplier, bounds);
        Self::new(plan, index, std::array::from_fn(level), isa)
    }
}

impl Kernel for Table {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        for image in 0..call.images {
            for y in 0..self.output.h {
                let from = &input[self.input.row(image, y)];
                let out = &mut out[out_row(&self.output, image, y)];
                elementwise::lut_u8(self.isa, &self.table, from, out);
            }
        }
    }
}
