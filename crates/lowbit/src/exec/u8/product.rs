//! What convolutions and linear layers share: integer weights, and constants known before or found in the batch.

use super::{IntegerLayer, Values, bounds};
use crate::exec::kernel::Out;
use crate::exec::workspace::Inputs;
use crate::lower::Plan;
use crate::quant::{
    ActivationParams, InputParams, Levels, Product, ProductConstants, QuantizedLayer, Requant,
};
use lowbit_kernels::{ConvGeometry, Isa, WeightShape};
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
    /// The groups of a step, in their order.
    pub(super) fn groups(
        plan: &Plan,
        index: usize,
        groups: usize,
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Vec<Self> {
        let program_step = plan.exec.layer(&plan.exec.steps[index]);
        let shape = program_step.weight_shape().expect("products have weights");
        Self::groups_of(plan, index, (groups, shape), layer, values, isa)
    }

    /// The one product of a step over all taps that a pixel sees, side by side.
    pub(super) fn of_taps(
        plan: &Plan,
        index: usize,
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Vec<Self> {
        let program_step = plan.exec.layer(&plan.exec.steps[index]);
        let shape = program_step.weight_shape().expect("products have weights");
        let shape = WeightShape::linear(shape.out_channels, shape.fan_in());
        Self::groups_of(plan, index, (1, shape), layer, values, isa)
    }

    fn groups_of(
        plan: &Plan,
        index: usize,
        (groups, shape): (usize, WeightShape),
        layer: IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Vec<Self> {
        let step = &plan.exec.steps[index];
        let program_step = plan.exec.layer(step);
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
                .expect("the layer was checked");
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

    /// The constants of a batch whose input has these parameters.
    fn found(&self, input: ActivationParams) -> ProductConstants {
        let (scale, bias) = (&self.scale, Some(&self.bias[..]));
        let requant = Requant::new(self.product.sums(), scale, bias, input.into(), None);
        self.product.constants(requant)
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
        let found;
        let constants = match &self.constants {
            Some(constants) => constants,
            None => {
                found = self.found(inputs.found(0));
                &found
            }
        };
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
