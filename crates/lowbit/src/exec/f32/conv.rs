//! Convolution with bias, ReLU, ceiling and 2×2 max-pool.

use super::Weights;
use crate::exec::kernel::{Call, Kernel};
use crate::exec::pointwise::Pointwise;
use crate::lower::{ConvView, Plan};
use lowbit_kernels::{Isa, WeightShape, conv_f32, depthwise};
use std::ops::Range;

pub(super) struct Conv {
    view: ConvView,
    form: Form,
    pointwise: Option<Pointwise>,
    /// Columns of the result.
    width: usize,
    bias: Vec<f32>,
    relu: bool,
    ceiling: Option<f32>,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

enum Form {
    /// One product for each group.
    Groups(Vec<conv_f32::PackedWeights>),
    Depthwise(depthwise::FloatWeights),
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
        let view = plan.conv(index);
        let form = if let Some((geometry, _)) = view.depthwise() {
            let (channels, taps) = (geometry.channels, geometry.kernel);
            let weights = depthwise::FloatWeights::pack(isa, &kernel, channels, taps);
            Form::Depthwise(weights)
        } else {
            let shape = WeightShape {
                out_channels: shape.out_channels / groups,
                ..shape
            };
            let of_groups = kernel.chunks(shape.len());
            let pack = |kernel| conv_f32::PackedWeights::pack(isa, kernel, shape);
            Form::Groups(of_groups.map(pack).collect())
        };
        let (input, output) = (plan.input(index, 0), plan.output(index));
        Self {
            pointwise: Pointwise::new(&view, &input, &output),
            width: output.w,
            view,
            form,
            bias,
            relu: layer.epilogue.relu,
            ceiling: layer.epilogue.ceiling,
            image_len: [input.image_len, output.image_len],
        }
    }

    fn epilogue<'a>(&self, bias: &'a [f32]) -> conv_f32::Epilogue<'a> {
        conv_f32::Epilogue {
            bias: Some(bias),
            relu: self.relu,
            ceiling: self.ceiling,
        }
    }

    /// Computes a rectangle of one image.
    fn one(&self, [rows, columns]: [Range<usize>; 2], input: &[f32], out: &mut [f32]) {
        match &self.form {
            Form::Groups(weights) => self.view.calls(rows, columns, |part| {
                let channels = self.bias.len() / weights.len();
                let (input, out) = (&input[part.input..], &mut out[part.output..]);
                let epilogue = self.epilogue(&self.bias[part.group * channels..][..channels]);
                let weights = &weights[part.group];
                conv_f32::conv(weights, &part.geometry, part.rows, input, &epilogue, out);
            }),
            Form::Depthwise(weights) => {
                let view = self.view.depthwise();
                let (geometry, first) = view.expect("it was when its weights were packed");
                let (input, epilogue) = (&input[first..], self.epilogue(&self.bias));
                depthwise::conv_f32(weights, &geometry, [rows, columns], input, &epilogue, out);
            }
        }
    }
}

impl Kernel for Conv {
    fn is_divisible(&self) -> bool {
        true
    }

    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        if let (Some(pointwise), Form::Groups(weights)) = (self.pointwise, &self.form)
            && call.columns.len() == self.width
        {
            let input = &input[pointwise.input_row(call.rows.start)..];
            pointwise.run(call.images, call.rows, out, |geometry, out| {
                let epilogue = self.epilogue(&self.bias);
                conv_f32::conv(&weights[0], geometry, 0..1, input, &epilogue, out);
            });
            return;
        }
        for image in 0..call.images {
            let [from, to] = self.image_len.map(|len| image * len);
            let rectangle = [call.rows.clone(), call.columns.clone()];
            self.one(rectangle, &input[from..], &mut out[to..]);
        }
    }
}
