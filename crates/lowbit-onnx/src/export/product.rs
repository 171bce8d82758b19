//! Convolutions and linear layers.

use super::{Attribute, Elements, ExportError, Exporter, Source};
use lowbit::graph::{Conv, Program, Step, fold_batch_norm};

/// `[out, rest, in]` as `[out, in, rest]`.
fn channels_first<T: Copy>(weights: &[T], rest: usize, channels: usize) -> Vec<T> {
    let filters = weights.chunks_exact((rest * channels).max(1));
    let turned = filters.flat_map(|filter| {
        (0..channels).flat_map(move |c| filter.iter().skip(c).step_by(channels).copied())
    });
    turned.collect()
}

impl Exporter<'_> {
    pub(super) fn conv(
        &mut self,
        step: &Step,
        index: usize,
        conv: Conv,
        x: &str,
    ) -> Result<String, ExportError> {
        let per_group = step.in_shapes[0].c() / conv.groups;
        let [kernel_h, kernel_w] = conv.kernel;
        let dims = [conv.out_channels, per_group, kernel_h, kernel_w];
        let image = match step.in_shapes[0].rank() {
            1 => {
                let name = format!("{}.image", step.name);
                let channels = step.in_shapes[0].c() as i64;
                let image = self.reshaped(&name, x, &[0, channels, 1, 1]);
                self.requantized(&name, image, step.inputs[0])
            }
            _ => x.to_owned(),
        };
        let turned = [kernel_h * kernel_w, per_group];
        let [weights, bias] = self.weights_and_bias(step, index, &dims, turned)?;
        let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&x| x as i64).collect());
        let attributes = [
            ("dilations", ints(&conv.dilation)),
            ("group", Attribute::Int(conv.groups as i64)),
            ("kernel_shape", ints(&conv.kernel)),
            ("pads", ints(&conv.padding)),
            ("strides", ints(&conv.stride)),
        ];
        let inputs = [image.as_str(), &weights, &bias];
        let image = self.writer.node(&step.name, "Conv", &inputs, &attributes);
        Ok(match step.main_shape.rank() {
            1 => {
                let axis = [("axis", Attribute::Int(1))];
                let name = format!("{}.flatten", step.name);
                self.writer.node(&name, "Flatten", &[&image], &axis)
            }
            _ => image,
        })
    }

    pub(super) fn linear(
        &mut self,
        program: &Program,
        index: usize,
        x: &str,
    ) -> Result<String, ExportError> {
        let step = &program.steps()[index];
        let value = program.value_shape(step.inputs[0]);
        let mut vector = x.to_owned();
        if value.rank() != 1 {
            let name = format!("{}.flatten", step.name);
            let axis = [("axis", Attribute::Int(1))];
            vector = self.writer.node(&name, "Flatten", &[x], &axis);
            vector = self.requantized(&name, vector, step.inputs[0]);
        }
        // lowbit flattens an image pixel by pixel, ONNX channel by channel.
        let turned = [value.len() / value.c(), value.c()];
        let out = step.main_shape.c();
        let [weights, bias] = self.weights_and_bias(step, index, &[out, value.len()], turned)?;
        let inputs = [vector.as_str(), &weights, &bias];
        let attributes = [("transB", Attribute::Int(1))];
        let vector = self.writer.node(&step.name, "Gemm", &inputs, &attributes);
        Ok(match step.main_shape.rank() {
            1 => vector,
            _ => {
                let name = format!("{}.image", step.name);
                self.reshaped(&name, &vector, &[0, out as i64, 1, 1])
            }
        })
    }

    /// The tensors of a product: of a quantized layer dequantized, its bias as whole steps where lowbit adds it so.
    fn weights_and_bias(
        &mut self,
        step: &Step,
        index: usize,
        dims: &[usize],
        [rest, channels]: [usize; 2],
    ) -> Result<[String; 2], ExportError> {
        let name = step.name.as_str();
        let bias_name = format!("{name}.bias");
        let model = match self.source {
            Source::Float(weights) => {
                let (weights, bias) = fold_batch_norm(step, weights);
                let weights = channels_first(&weights, rest, channels);
                let weights = Elements::F32(&weights);
                let weights = self
                    .writer
                    .tensor(&format!("{name}.weight"), dims, &weights);
                let bias_dims = [bias.len()];
                let bias = self
                    .writer
                    .tensor(&bias_name, &bias_dims, &Elements::F32(&bias));
                return Ok([weights, bias]);
            }
            Source::Quantized(model) => model,
        };
        if let Some(float) = model.float.layers.get(&index) {
            let weights = channels_first(&float.weights, rest, channels);
            let weights = Elements::F32(&weights);
            let weights = self
                .writer
                .tensor(&format!("{name}.weight"), dims, &weights);
            let bias = Elements::F32(&float.bias);
            let bias = self.writer.tensor(&bias_name, &[float.bias.len()], &bias);
            return Ok([weights, bias]);
        }
        let layer = model.layers[index]
            .as_ref()
            .ok_or_else(|| ExportError::Layer {
                layer: name.to_owned(),
                reason: "it has no weights".into(),
            })?;
        let codes = channels_first(&layer.weights, rest, channels);
        // ONNX's integers are no odd numbers alone: the next width has them among others.
        let bits = match layer.bits.is_odd() {
            true => 2 * layer.bits.get(),
            false => layer.bits.get(),
        };
        let scale = &layer.scale;
        let weights = self.dequantized_weights(name, dims, bits, &codes, scale);
        let bias_dims = [layer.bias.len()];
        let Some(steps) = model.bias_steps(index) else {
            let bias = self.real_bias(index, step, &layer.bias);
            let bias = self
                .writer
                .tensor(&bias_name, &bias_dims, &Elements::F32(&bias));
            return Ok([weights, bias]);
        };
        let steps = self
            .writer
            .tensor(&bias_name, &bias_dims, &Elements::I32(&steps));
        let input = self
            .params(step.inputs[0])
            .map_or(1.0, |params| params.scale);
        let scales: Vec<f32> = layer.scale.iter().map(|scale| input * scale).collect();
        let scales = Elements::F32(&scales);
        let scales = self
            .writer
            .tensor(&format!("{name}.bias_scale"), &bias_dims, &scales);
        let zeros = Elements::I32(&vec![0; layer.bias.len()]);
        let zero_point = format!("{name}.bias_zero_point");
        let zeros = self.writer.tensor(&zero_point, &bias_dims, &zeros);
        let inputs = [steps.as_str(), &scales, &zeros];
        let axis = [("axis", Attribute::Int(0))];
        let name = format!("{name}.bias_dequantize");
        let bias = self.writer.node(&name, "DequantizeLinear", &inputs, &axis);
        Ok([weights, bias])
    }

    /// A bias in real units, with what lies between the integer zero of pixels and their real one.
    fn real_bias(&self, index: usize, step: &Step, bias: &[f32]) -> Vec<f32> {
        let (Source::Quantized(model), Some(_)) = (self.source, self.params(step.inputs[0])) else {
            return bias.to_vec();
        };
        let moved = model.moved_bias(index);
        bias.iter()
            .zip(moved)
            .map(|(b, moved)| (f64::from(*b) + moved) as f32)
            .collect()
    }
}
