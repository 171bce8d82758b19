//! What convolutions and linear layers share: integer weights, and constants known before or found in the batch.

use super::{IntegerLayer, Values, bounds};
use crate::exec::kernel::Out;
use crate::exec::workspace::Inputs;
use crate::lower::Plan;
use crate::quant::{InputParams, Levels, Product, ProductConstants, QuantizedLayer, Requant};
use lowbit_kernels::images::Window;
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa, WeightShape};
use std::ops::Range;

/// The product of one group of a step's channels.
pub(super) struct LayerProduct {
    product: Product,
    scale: Vec<f32>,
    bias: Vec<f32>,
    /// None where they are found in the batch.
    constants: Option<ProductConstants>,
    levels: Levels,
    relu: bool,
    ceiling: Option<f32>,
}

impl LayerProduct {
    /// The groups of a step, in their order. Where pixels see different `windows` of the kernel, each may take several images at
    /// once.
    pub(super) fn groups(
        plan: &Plan,
        index: usize,
        (groups, windows): (usize, &[Window]),
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Vec<Self> {
        let step = &plan.exec.steps[index];
        let program_step = plan.exec.layer(step);
        let shape = program_step.weight_shape().expect("products have weights");

        let (relu, ceiling) = (program_step.epilogue.relu, program_step.epilogue.ceiling);
        let from = plan.exec.values[step.inputs[0]].value;
        let one_bit_input = layer.one_bit_input && from != 0;
        let output = values.params[plan.exec.values[step.output].value];
        let [low, high] = bounds(&program_step.epilogue, output, values.high);
        let levels = Levels {
            zero_point: output.zero_point,
            low,
            high,
        };
        let input: Option<InputParams> = match from {
            0 => Some(values.pixels),
            _ if values.dynamic => None,
            _ => Some(values.params[from].into()),
        };
        let output = (!values.dynamic).then_some(output);
        let channels = shape.out_channels / groups;
        let shape = WeightShape {
            out_channels: channels,
            ..shape
        };
        let group = |group: usize| {
            let QuantizedLayer {
                bits,
                weights,
                scale,
                bias,
            } = layer.layer;
            let weights = &weights[group * shape.len()..][..shape.len()];
            let product = Product::pack(isa, *bits, weights, shape, one_bit_input)
                .expect("the layer was checked")
                .with_windows(weights, windows);
            let of_group = |values: &[f32]| values[group * channels..][..channels].to_vec();
            let (scale, bias) = (of_group(scale), of_group(bias));
            let has_bias_steps = values.arithmetic.has_bias_steps(*bits);
            let constants = input.map(|input| {
                product.constants(match has_bias_steps {
                    true => Requant::with_bias_steps(product.sums(), &scale, &bias, input, output),
                    false => Requant::new(product.sums(), &scale, Some(&bias), input, output),
                })
            });
            Self {
                product,
                scale,
                bias,
                constants,
                levels,
                relu,
                ceiling,
            }
        };
        (0..groups).map(group).collect()
    }

    /// The constants of a batch whose input's parameters are found in it; none where they are known before.
    fn found_in(&self, inputs: &Inputs<'_>) -> Option<ProductConstants> {
        if self.constants.is_some() {
            return None;
        }
        let (scale, bias, input) = (&self.scale, Some(&self.bias[..]), inputs.found(0));
        let requant = Requant::new(self.product.sums(), scale, bias, input.into(), None);
        Some(self.product.constants(requant))
    }

    /// Whether several images can be taken at once.
    pub(super) fn takes_images(&self) -> bool {
        self.product.takes_images()
    }

    /// Runs several images at once; `out` from the first one's first pixel on.
    pub(super) fn run_images(
        &self,
        inputs: &Inputs<'_>,
        geometry: &ImagesGeometry,
        view: &[u8],
        out: Out<'_>,
    ) {
        let found = self.found_in(inputs);
        let constants = self.constants.as_ref().or(found.as_ref());
        let constants = constants.expect("known before or found");
        match out {
            Out::U8(out) => {
                self.product
                    .run_images_u8(constants, self.levels, geometry, view, out);
            }
            Out::F32(out) => {
                self.product
                    .run_images_f32(constants, self.relu, geometry, view, out);
                let image = &geometry.image;
                let extents = [image.out_h, image.out_w, image.out_channels];
                let strides = [image.out_row_stride, image.out_pixel_stride];
                for out in out
                    .chunks_mut(geometry.out_image_stride)
                    .take(geometry.images)
                {
                    cut(self.ceiling, out, strides, extents);
                }
            }
        }
    }

    /// Runs one call of a kernel; `out` from its first element on.
    pub(super) fn run(
        &self,
        inputs: &Inputs<'_>,
        geometry: &ConvGeometry,
        rows: Range<usize>,
        view: &[u8],
        out: Out<'_>,
    ) {
        let found = self.found_in(inputs);
        let constants = self.constants.as_ref().or(found.as_ref());
        let constants = constants.expect("known before or found");
        match out {
            Out::U8(out) => {
                self.product
                    .run_u8(constants, self.levels, geometry, rows, view, out);
            }
            Out::F32(out) => {
                let extents = [rows.len(), geometry.pooled_w(), geometry.out_channels];
                self.product
                    .run_f32(constants, self.relu, geometry, rows, view, out);
                let strides = [geometry.out_row_stride, geometry.out_pixel_stride];
                cut(self.ceiling, out, strides, extents);
            }
        }
    }
}

/// Cuts f32 results at a ceiling, if there is one: `[rows, columns, channels]` of them, with the strides of rows and pixels.
pub(super) fn cut(
    ceiling: Option<f32>,
    out: &mut [f32],
    [row_stride, pixel_stride]: [usize; 2],
    [rows, columns, channels]: [usize; 3],
) {
    let Some(ceiling) = ceiling else {
        return;
    };
    for row in 0..rows {
        for column in 0..columns {
            let pixel = &mut out[row * row_stride + column * pixel_stride..][..channels];
            pixel.iter_mut().for_each(|x| *x = x.min(ceiling));
        }
    }
}
