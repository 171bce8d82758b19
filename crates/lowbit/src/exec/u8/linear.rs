//! Linear layer with bias and ReLU.

use super::product::LayerProduct;
use super::{IntegerLayer, Values};
use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan, linear_geometry};
use lowbit_kernels::Isa;

pub(super) struct Linear {
    input: Layout,
    output: Layout,
    product: Vec<LayerProduct>,
}

impl Linear {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            product: LayerProduct::groups(plan, index, (1, &[]), layer, values, isa),
        }
    }
}

impl Kernel for Linear {
    fn run(&self, call: Call<'_>) {
        let view = &call.inputs.u8(0)[self.input.first()..];
        let geometry = linear_geometry(&self.input, &self.output, call.images);
        self.product[0].run(&call.inputs, &geometry, 0..1, view, call.out);
    }
}
