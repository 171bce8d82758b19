//! Functions of one element: tables of 256 bytes.

use super::StepParams;
use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};
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

    /// A function of real numbers, once rounded and once in f32 ([`Arithmetic::table`](crate::quant::Arithmetic)).
    pub(super) fn of(
        plan: &Plan,
        index: usize,
        params: &StepParams,
        isa: Isa,
        function: (impl Fn(f64) -> f64, impl Fn(f32) -> f32),
    ) -> Self {
        let (from, to) = (params.inputs[0], params.output);
        let table = params.arithmetic.table(from, to, params.bounds, function);
        Self::new(plan, index, table, isa)
    }

    /// The input on the result's grid, cut at its zero point.
    pub(super) fn relu(plan: &Plan, index: usize, params: &StepParams, isa: Isa) -> Self {
        let cut = StepParams {
            inputs: params.inputs.clone(),
            bounds: [params.output.zero_point, params.bounds[1]],
            ..*params
        };
        Self::new(plan, index, cut.moved(0), isa)
    }
}

impl Kernel for Table {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        for image in 0..call.images {
            for y in call.rows.clone() {
                let from = &input[self.input.row(image, y)];
                let out = &mut out[out_row(&self.output, image, y - call.rows.start)];
                elementwise::lut_u8(self.isa, &self.table, from, out);
            }
        }
    }
}
