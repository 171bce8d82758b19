//! Convolution with bias, ReLU and 2×2 max-pool.

use super::Weights;
use crate::exec::kernel::{Call, Kernel};
use crate::lower::{ConvView, Plan};
use lowbit_kernels::{Isa, WeightShape, conv_f32};

pub(super) struct Conv {
    view: ConvView,
    /// One for each group.
    weights: Vec<conv_f32::PackedWeights>,
    bias: Vec<f32>,
    relu: bool,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

impl Conv {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        groups: usize,
        (kernel, bias): Weights,
        isa: Isa,
    ) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        let shape = layer.weight_shape().expect("convolutions have weights");
        let shape = WeightShape {
            out_channels: shape.out_channels / groups,
            ..shape
        };
        let of_groups = kernel.chunks(shape.len());
        Self {
            view: plan.conv(index),
            weights: of_groups
                .map(|kernel| conv_f32::PackedWeights::pack(isa, kernel, shape))
                .collect(),
            bias,
            relu: layer.epilogue.relu,
            image_len: [plan.input(index, 0).image_len, plan.output(index).image_len],
        }
    }
}

impl Kernel for Conv {
    fn is_divisible(&self) -> bool {
        true
    }

    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        let channels = self.bias.len() / self.weights.len();
        for image in 0..call.images {
            let [from, to] = self.image_len.map(|len| image * len);
            let (rows, columns) = (call.rows.clone(), call.columns.clone());
            self.view.calls(rows, columns, |part| {
                let epilogue = conv_f32::Epilogue {
                    bias: Some(&self.bias[part.group * channels..][..channels]),
                    relu: self.relu,
                };
                conv_f32::conv(
                    &self.weights[part.group],
                    &part.geometry,
                    part.rows,
                    &input[from + part.input..],
                    &epilogue,
                    &mut out[to + part.output..],
                );
            });
        }
    }
}
