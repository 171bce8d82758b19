//! Convolution with bias, ReLU and 2×2 max-pool.

use super::product::LayerProduct;
use super::{IntegerLayer, Values};
use crate::exec::kernel::{Call, Kernel, Out};
use crate::lower::{ConvView, Plan};
use lowbit_kernels::Isa;

pub(super) struct Conv {
    view: ConvView,
    groups: Vec<LayerProduct>,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

impl Conv {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        groups: usize,
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Self {
        Self {
            view: plan.conv(index),
            groups: LayerProduct::groups(plan, index, groups, layer, values, isa),
            image_len: [plan.input(index, 0).image_len, plan.output(index).image_len],
        }
    }
}

impl Kernel for Conv {
    fn is_divisible(&self) -> bool {
        true
    }

    fn run(&self, mut call: Call<'_>) {
        let input = call.inputs.u8(0);
        for image in 0..call.images {
            let [from, to] = self.image_len.map(|len| image * len);
            let (rows, columns) = (call.rows.clone(), call.columns.clone());
            let (inputs, out) = (&call.inputs, &mut call.out);
            self.view.calls(rows, columns, |part| {
                let out = match out {
                    Out::F32(out) => Out::F32(&mut out[to + part.output..]),
                    Out::U8(out) => Out::U8(&mut out[to + part.output..]),
                };
                let view = &input[from + part.input..];
                self.groups[part.group].run(inputs, &part.geometry, part.rows, view, out);
            });
        }
    }
}
