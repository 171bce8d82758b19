//! Convolution with bias, ReLU, ceiling and 2×2 max-pool.

use super::Weights;
use crate::exec::gathered::{Gathered, part_of};
use crate::exec::kernel::{Call, Kernel};
use crate::exec::pointwise::Pointwise;
use crate::exec::together::Together;
use crate::exec::winograd::Winograd;
use crate::lower::{ConvView, Plan};
use crate::ops;
use lowbit_kernels::conv_f32::winograd::WinogradWeights;
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa, WeightShape, conv_f32, depthwise};
use std::ops::Range;

pub(super) struct Conv {
    view: ConvView,
    form: Form,
    pointwise: Option<Pointwise>,
    /// How several images with few pixels, or one, are computed.
    together: Option<Together>,
    gathered: Option<Gathered>,
    /// Columns of the result.
    width: usize,
    /// Rows and columns of padding all around, where a step of one makes them the first and the last that are seen.
    border: usize,
    bias: Vec<f32>,
    relu: bool,
    ceiling: Option<f32>,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

enum Form {
    /// One product for each group, or for each part of the channels where taps are gathered.
    Groups(Vec<conv_f32::PackedWeights>),
    Depthwise(depthwise::FloatWeights),
    Winograd(Winograd, WinogradWeights),
}

impl Conv {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        conv: &ops::Conv,
        (kernel, bias): Weights,
        isa: Isa,
    ) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        let shape = layer.weight_shape().expect("convolutions have weights");
        let view = plan.conv(index);
        let (input, output) = (plan.input(index, 0), plan.output(index));
        let pointwise = Pointwise::new(&view, &input, &output);
        let together = match pointwise {
            Some(_) => None,
            None => Together::new(&view, &input, &output),
        };
        let gathered = Gathered::new(&view, conv, &input, &output);
        // Parts of the channels of one product are packed as groups are.
        let parts = gathered.map_or(1, |gathered| gathered.parts());
        let groups = conv.groups * parts;
        let form = if let Some((geometry, _)) = view.depthwise() {
            let (channels, taps) = (geometry.channels, geometry.kernel);
            let weights = depthwise::FloatWeights::pack(isa, &kernel, channels, taps);
            Form::Depthwise(weights)
        } else if let Some(winograd) = Winograd::new(&view, &input, &output) {
            Form::Winograd(winograd, WinogradWeights::pack(isa, &kernel, shape))
        } else {
            let shape = WeightShape {
                out_channels: shape.out_channels / groups,
                ..shape
            };
            let of_groups = kernel.chunks(shape.len());
            let pack = |kernel| conv_f32::PackedWeights::pack(isa, kernel, shape);
            Form::Groups(of_groups.map(pack).collect())
        };
        Self {
            pointwise,
            together,
            gathered,
            width: output.w,
            border: match (conv.stride, conv.dilation, conv.padding) {
                ([1, 1], [1, 1], [top, left, below, right]) if [left, below, right] == [top; 3] => {
                    top
                }
                _ => 0,
            },
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

    /// Computes a rectangle of one image, group by group; `is_whole` says whether the whole input is there.
    fn groups(
        &self,
        weights: &[conv_f32::PackedWeights],
        ([rows, columns], is_whole): ([Range<usize>; 2], bool),
        input: &[f32],
        out: &mut [f32],
    ) {
        let channels = self.bias.len() / weights.len();
        self.view.calls(rows, columns, |part| {
            let part = match is_whole {
                true => part,
                false => part.of_some_rows(),
            };
            let (input, out) = (&input[part.input..], &mut out[part.output..]);
            let epilogue = self.epilogue(&self.bias[part.group * channels..][..channels]);
            let weights = &weights[part.group];
            let (g, rows) = (&part.geometry, part.rows);
            // A part of the columns may begin behind the border.
            let is_row = g.pooled_w() == self.width;
            let border = if is_row { self.border } else { 0 };
            conv_f32::conv_haloed(weights, g, rows, border, input, &epilogue, out);
        });
    }

    /// Computes a rectangle of one image, channel by channel.
    fn depthwise(
        &self,
        weights: &depthwise::FloatWeights,
        rectangle: [Range<usize>; 2],
        input: &[f32],
        out: &mut [f32],
    ) {
        let view = self.view.depthwise();
        let (geometry, first) = view.expect("it was when its weights were packed");
        let (input, epilogue) = (&input[first..], self.epilogue(&self.bias));
        depthwise::conv_f32(weights, &geometry, rectangle, input, &epilogue, out);
    }
}

impl Kernel for Conv {
    fn is_divisible(&self) -> bool {
        true
    }

    fn shares_channels(&self) -> bool {
        self.gathered.is_some_and(|gathered| gathered.parts() > 1)
    }

    fn shared_rows(&self) -> Option<usize> {
        match &self.form {
            Form::Winograd(winograd, _) => Some(winograd.tile_rows()),
            _ => None,
        }
    }

    fn run(&self, call: Call<'_>) {
        let together = self.together.as_ref();
        let together = together.and_then(|it| Some((it, it.of(&call)?)));
        let is_whole = call.inputs.rows.is_none();
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        let rectangle = || [call.rows.clone(), call.columns.clone()];
        let each = |out: &mut [f32], one: &dyn Fn(&[f32], &mut [f32])| {
            for image in 0..call.images {
                let [from, to] = self.image_len.map(|len| image * len);
                one(&input[from..], &mut out[to..]);
            }
        };
        let weights = match &self.form {
            Form::Groups(weights) => weights,
            Form::Depthwise(weights) => {
                return each(out, &|input, out| {
                    self.depthwise(weights, rectangle(), input, out);
                });
            }
            Form::Winograd(winograd, weights) => {
                let epilogue = self.epilogue(&self.bias);
                return winograd.run(weights, call.images, rectangle(), input, &epilogue, out);
            }
        };
        let product = |part: usize, geometry: &ConvGeometry, view: &[f32], out: &mut [f32]| {
            let channels = geometry.out_channels;
            let epilogue = self.epilogue(&self.bias[part * channels..][..channels]);
            conv_f32::conv(&weights[part], geometry, 0..1, view, &epilogue, out);
        };
        if let (Some(gathered), Some(team)) = (&self.gathered, call.team) {
            return gathered.run_shared(team, input, out, product);
        }
        if let Some(pointwise) = &self.pointwise
            && call.columns.len() == self.width
        {
            let view = &input[pointwise.input_row(call.rows.start)..];
            let rows = call.rows.clone();
            return pointwise.run(call.images, rows, out, |geometry, out| {
                for part in 0..weights.len() {
                    let (geometry, first) = part_of(geometry, part, weights.len());
                    product(part, &geometry, view, &mut out[first..]);
                }
            });
        }
        if let Some((together, geometry)) = together {
            // Either groups, or parts of the channels of one product.
            let parts = weights.len() / together.groups();
            for (part, of_part) in weights.iter().enumerate() {
                let (image, _) = part_of(&geometry.image, part, parts);
                let first = part * image.out_channels;
                let epilogue = self.epilogue(&self.bias[first..][..image.out_channels]);
                let geometry = ImagesGeometry { image, ..geometry };
                let view = together.view(input, part / parts);
                conv_f32::conv_images(of_part, &geometry, view, &epilogue, &mut out[first..]);
            }
            return;
        }
        if let Some(gathered) = &self.gathered {
            return gathered.run(call.images, rectangle(), input, out, product);
        }
        each(out, &|input, out| {
            self.groups(weights, (rectangle(), is_whole), input, out);
        });
    }
}
