//! Depthwise convolution: a filter of its own for each channel.

use super::{IntegerLayer, Values, bounds};
use crate::exec::kernel::{Call, Kernel, Out};
use crate::lower::{ConvView, Plan};
use crate::quant::{ActivationParams, InputParams, Requant};
use lowbit_kernels::Isa;
use lowbit_kernels::depthwise::{self, DepthwiseGeometry, Dequantize, IntegerWeights, Requantize};

pub(super) struct Depthwise {
    geometry: DepthwiseGeometry,
    /// Where the view begins in the input's image.
    first: usize,
    weights: IntegerWeights,
    scale: Vec<f32>,
    bias: Vec<f32>,
    /// None where they are found in the batch.
    constants: Option<Constants>,
    zero_point: u8,
    bounds: [u8; 2],
    relu: bool,
    ceiling: Option<f32>,
    /// Whether biases are whole steps.
    has_bias_steps: bool,
    /// Elements from one image to the next, of input and output.
    image_len: [usize; 2],
}

/// The layer's constants in the kernel's form.
struct Constants {
    acc_offset: Vec<i32>,
    multiplier: Vec<f32>,
    bias: Vec<f32>,
}

impl Depthwise {
    /// The form of a step; none where its sums could overflow, or the convolution is another one.
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        layer: &IntegerLayer<'_>,
        values: &Values,
        isa: Isa,
    ) -> Option<Self> {
        let view: ConvView = plan.conv(index);
        let (geometry, first) = view.depthwise()?;
        let step = &plan.exec.steps[index];
        let epilogue = &plan.exec.layer(step).epilogue;
        let (channels, kernel) = (geometry.channels, geometry.kernel);
        let integers = &layer.layer.weights;
        let mut filters = integers.chunks_exact(kernel[0] * kernel[1]);
        if !filters.all(IntegerWeights::fits) {
            return None;
        }
        let from = plan.exec.values[step.inputs[0]].value;
        let output = values.params[plan.exec.values[step.output].value];
        let mut depthwise = Self {
            geometry,
            first,
            weights: IntegerWeights::pack(isa, integers, channels, kernel),
            scale: layer.layer.scale.clone(),
            bias: layer.layer.bias.clone(),
            constants: None,
            zero_point: output.zero_point,
            bounds: bounds(epilogue, output, values.high),
            relu: epilogue.relu,
            ceiling: epilogue.ceiling,
            has_bias_steps: values.arithmetic.has_bias_steps(layer.layer.bits),
            image_len: [plan.input(index, 0).image_len, plan.output(index).image_len],
        };
        let output = (!values.dynamic).then_some(output);
        depthwise.constants = match from {
            0 => Some(depthwise.constants(values.pixels, output)),
            _ if values.dynamic => None,
            _ => Some(depthwise.constants(values.params[from].into(), output)),
        };
        Some(depthwise)
    }

    fn constants(&self, input: InputParams, output: Option<ActivationParams>) -> Constants {
        let sums = self.weights.sums();
        let requant = match self.has_bias_steps {
            true => Requant::with_bias_steps(sums, &self.scale, &self.bias, input, output),
            false => Requant::new(sums, &self.scale, Some(&self.bias), input, output),
        };
        Constants {
            acc_offset: requant.acc_offset(sums),
            multiplier: requant.multiplier,
            bias: requant.bias,
        }
    }

    /// Computes a rectangle of one image.
    fn one(&self, constants: &Constants, call: &CallPart<'_>, out: Out<'_>) {
        let input = &call.input[self.first..];
        let rectangle = call.rectangle.clone();
        let Constants {
            acc_offset,
            multiplier,
            bias,
        } = constants;
        match out {
            Out::U8(out) => {
                let requantize = Requantize {
                    acc_offset,
                    multiplier,
                    bias,
                    zero_point: i32::from(self.zero_point),
                    low: self.bounds[0],
                    high: self.bounds[1],
                };
                let (weights, geometry) = (&self.weights, &self.geometry);
                depthwise::conv_u8(weights, geometry, rectangle, input, &requantize, out);
            }
            Out::F32(out) => {
                let dequantize = Dequantize {
                    acc_offset,
                    multiplier,
                    bias,
                    relu: self.relu,
                };
                let (weights, geometry) = (&self.weights, &self.geometry);
                let [rows, columns] = rectangle.clone();
                depthwise::conv_u8_f32(weights, geometry, rectangle, input, &dequantize, out);
                let strides = [geometry.out_row_stride, geometry.out_pixel_stride];
                let extents = [rows.len(), columns.len(), geometry.channels];
                super::product::cut(self.ceiling, out, strides, extents);
            }
        }
    }
}

/// What one image's part of a call reads.
struct CallPart<'a> {
    input: &'a [u8],
    rectangle: [std::ops::Range<usize>; 2],
}

impl Kernel for Depthwise {
    fn is_divisible(&self) -> bool {
        true
    }

    fn run(&self, mut call: Call<'_>) {
        let input = call.inputs.u8(0);
        let found;
        let constants = match &self.constants {
            Some(constants) => constants,
            None => {
                found = self.constants(call.inputs.found(0).into(), None);
                &found
            }
        };
        for image in 0..call.images {
            let [from, to] = self.image_len.map(|len| image * len);
            let part = CallPart {
                input: &input[from..],
                rectangle: [call.rows.clone(), call.columns.clone()],
            };
            let out = match &mut call.out {
                Out::F32(out) => Out::F32(&mut out[to..]),
                Out::U8(out) => Out::U8(&mut out[to..]),
            };
            self.one(constants, &part, out);
        }
    }
}
