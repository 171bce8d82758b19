//! What convolutions and linear layers share: integer weights, and constants known before or found in the batch.

use super::{IntegerLayer, Values};
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
        let step = &plan.exec.steps[index];
        let program_step = plan.exec.layer(step);
        let relu = program_step.epilogue.relu;
        let shape = program_step.weight_shape().expect("products have weights");
        let from = plan.exec.values[step.inputs[0]].value;
        let one_bit_input = layer.one_bit_input && from != 0;
        let output = values.params[plan.exec.values[step.output].value];
        let levels = Levels {
            zero_point: output.zero_point,
            low: if relu { output.zero_point } else { 0 },
            high: values.high,
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
            let constants = input.map(|input| {
                let requant = Requant::new(product.sums(), &scale, Some(&bias), input, output);
                product.constants(requant)
            });
            Self {
                product,
                scale,
                bias,
                constants,
                levels,
                relu,
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
                self.product
                    .run_f32(constants, self.relu, geometry, rows, view, out);
            }
        }
    }
}
