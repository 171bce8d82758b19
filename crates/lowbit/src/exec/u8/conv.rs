//! Convolution with bias, ReLU and 2×2 max-pool.

use super::product::LayerProduct;
use super::{IntegerLayer, Values};
use crate::exec::gathered::Gathered;
use crate::exec::kernel::{Call, Kernel, Out};
use crate::exec::pointwise::Pointwise;
use crate::exec::together::Together;
use crate::lower::{ConvView, Plan};
use crate::ops;
use lowbit_kernels::Isa;

pub(super) struct Conv {
    view: ConvView,
    groups: Vec<LayerProduct>,
    pointwise: Option<Pointwise>,
    /// How several images with few pixels, or one, are computed.
    together: Option<Together>,
    gathered: Option<Gathered>,
    /// Columns of the result.
    width: usize,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

impl Conv {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        conv: &ops::Conv,
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Self {
        let (view, input, output) = (plan.conv(index), plan.input(index, 0), plan.output(index));
        let pointwise = Pointwise::new(&view, &input, &output);
        let (together, gathered) = match pointwise {
            Some(_) => (None, None),
            None => (
                Together::new(&view, &input, &output),
                Gathered::new(&view, conv, &input, &output),
            ),
        };
        let windows = together.map_or_else(Vec::new, |together| together.geometry().windows());
        let groups = (conv.groups, &windows[..]);
        let groups = LayerProduct::groups(plan, index, groups, layer, values, isa);
        Self {
            view,
            together: together.filter(|_| groups[0].takes_images()),
            groups,
            pointwise,
            gathered,
            width: output.w,
            image_len: [input.image_len, output.image_len],
        }
    }

    /// Computes a rectangle as a product over gathered taps.
    fn taps(&self, gathered: &Gathered, call: Call<'_>) {
        let (rectangle, inputs) = ([call.rows, call.columns], call.inputs);
        let (images, input) = (call.images, inputs.u8(0));
        match call.out {
            Out::F32(out) => {
                gathered.run(images, rectangle, input, out, |geometry, view, out| {
                    self.groups[0].run(&inputs, geometry, 0..1, view, Out::F32(out));
                });
            }
            Out::U8(out) => {
                gathered.run(images, rectangle, input, out, |geometry, view, out| {
                    self.groups[0].run(&inputs, geometry, 0..1, view, Out::U8(out));
                });
            }
        }
    }

    /// Computes whole rows as a product over pixels.
    fn pixels(&self, pointwise: &Pointwise, call: Call<'_>) {
        let (rows, inputs) = (call.rows, call.inputs);
        let view = &inputs.u8(0)[pointwise.input_row(rows.start)..];
        match call.out {
            Out::F32(out) => pointwise.run(call.images, rows, out, |geometry, out| {
                self.groups[0].run(&inputs, geometry, 0..1, view, Out::F32(out));
            }),
            Out::U8(out) => pointwise.run(call.images, rows, out, |geometry, out| {
                self.groups[0].run(&inputs, geometry, 0..1, view, Out::U8(out));
            }),
        }
    }
}

impl Kernel for Conv {
    fn is_divisible(&self) -> bool {
        true
    }

    fn run(&self, mut call: Call<'_>) {
        if let Some(pointwise) = self.pointwise
            && call.columns.len() == self.width
        {
            return self.pixels(&pointwise, call);
        }
        if let Some(together) = &self.together
            && let Some(geometry) = together.of(&call)
        {
            let view = together.view(call.inputs.u8(0));
            return self.groups[0].run_images(&call.inputs, &geometry, view, call.out);
        }
        if let Some(gathered) = &self.gathered {
            return self.taps(gathered, call);
        }
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
