//! Convolution with bias, ReLU and 2×2 max-pool.

use super::product::LayerProduct;
use super::{IntegerLayer, Values};
use crate::exec::gathered::{Gathered, part_of};
use crate::exec::kernel::{Call, Kernel, Out};
use crate::exec::pointwise::Pointwise;
use crate::exec::together::Together;
use crate::lower::{ConvView, Plan};
use crate::ops;
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa};

pub(super) struct Conv {
    view: ConvView,
    /// One for each group, or for each part of the channels where taps are gathered.
    products: Vec<LayerProduct>,
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
        let together = match pointwise {
            Some(_) => None,
            None => Together::new(&view, &input, &output),
        };
        let gathered = Gathered::new(&view, conv, &input, &output);
        let windows = together.map_or_else(Vec::new, |together| together.geometry().windows());
        // Parts of the channels of one product are packed as groups are.
        let parts = gathered.map_or(1, |gathered| gathered.parts());
        let groups = (conv.groups * parts, &windows[..]);
        let products = LayerProduct::groups(plan, index, groups, layer, values, isa);
        let take_images = products.iter().all(LayerProduct::takes_images);
        Self {
            view,
            together: together.filter(|_| take_images),
            products,
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
        let product = |part: usize, geometry: &ConvGeometry, view: &[u8], out: Out<'_>| {
            self.products[part].run(&inputs, geometry, 0..1, view, out);
        };
        let to_f32 = |part: usize, geometry: &ConvGeometry, view: &[u8], out: &mut [f32]| {
            product(part, geometry, view, Out::F32(out));
        };
        let to_u8 = |part: usize, geometry: &ConvGeometry, view: &[u8], out: &mut [u8]| {
            product(part, geometry, view, Out::U8(out));
        };
        match (call.out, call.team) {
            (Out::F32(out), Some(team)) => gathered.run_shared(team, input, out, to_f32),
            (Out::F32(out), None) => gathered.run(images, rectangle, input, out, to_f32),
            (Out::U8(out), Some(team)) => gathered.run_shared(team, input, out, to_u8),
            (Out::U8(out), None) => gathered.run(images, rectangle, input, out, to_u8),
        }
    }

    /// Computes several images at once, part by part of the channels.
    fn images(&self, together: &Together, geometry: &ImagesGeometry, call: Call<'_>) {
        let (inputs, mut out) = (call.inputs, call.out);
        let parts = self.products.len() / together.groups();
        for (part, product) in self.products.iter().enumerate() {
            let (image, _) = part_of(&geometry.image, part, parts);
            let geometry = ImagesGeometry { image, ..*geometry };
            let view = together.view(inputs.u8(0), part / parts);
            let out = out.from(part * image.out_channels);
            product.run_images(&inputs, &geometry, view, out);
        }
    }

    /// Computes whole rows as a product over pixels.
    fn pixels(&self, pointwise: &Pointwise, call: Call<'_>) {
        let (rows, inputs) = (call.rows, call.inputs);
        let view = &inputs.u8(0)[pointwise.input_row(rows.start)..];
        let parts = |geometry: &ConvGeometry, mut out: Out<'_>| {
            for (part, product) in self.products.iter().enumerate() {
                let (geometry, first) = part_of(geometry, part, self.products.len());
                product.run(&inputs, &geometry, 0..1, view, out.from(first));
            }
        };
        match call.out {
            Out::F32(out) => pointwise.run(call.images, rows, out, |geometry, out| {
                parts(geometry, Out::F32(out));
            }),
            Out::U8(out) => pointwise.run(call.images, rows, out, |geometry, out| {
                parts(geometry, Out::U8(out));
            }),
        }
    }
}

impl Kernel for Conv {
    fn is_divisible(&self) -> bool {
        true
    }

    fn shares_channels(&self) -> bool {
        self.gathered.is_some_and(|gathered| gathered.parts() > 1)
    }

    fn run(&self, mut call: Call<'_>) {
        if let (Some(gathered), Some(_)) = (&self.gathered, call.team) {
            return self.taps(gathered, call);
        }
        if let Some(pointwise) = self.pointwise
            && call.columns.len() == self.width
        {
            return self.pixels(&pointwise, call);
        }
        if let Some(together) = &self.together
            && let Some(geometry) = together.of(&call)
        {
            return self.images(together, &geometry, call);
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
                let part = match inputs.rows {
                    None => part,
                    Some(_) => part.of_some_rows(),
                };
                let out = out.from(to + part.output);
                let view = &input[from + part.input..];
                self.products[part.group].run(inputs, &part.geometry, part.rows, view, out);
            });
        }
    }
}
