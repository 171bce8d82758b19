//! The integer path: u8 between the layers, packed weights, one rounding rule.

mod check;
mod layer;

use super::dynamic::DynamicModel;
use super::engine::{Arithmetic, Call, Engine, Out};
use super::float::{FloatModel, PixelMap};
use super::plan::Plan;
use super::{LayerProfile, Model, RuntimeError};
use crate::graph::{Block, BlockKind, Graph};
use crate::quant::{ActivationParams, Method, QuantizedModel, level_max};
pub(crate) use check::check_quantized;
pub(super) use layer::pack;
use layer::{Bits, Layer, Weights, in_words};
use lowbit_kernels::bits::{self, BitWeights};
use lowbit_kernels::{ConvGeometry, Isa, Level, quantize, u8i8};

/// A quantized model compiled for integer inference.
pub struct IntegerModel {
    graph: Graph,
    kind: Kind,
}

enum Kind {
    Static(Engine<IntegerArithmetic>),
    Dynamic(DynamicModel),
    WeightOnly(FloatModel),
}

struct IntegerArithmetic {
    plan: Plan,
    isa: Isa,
    /// One per value; the image's are exact for zero padding up to half a step.
    activations: Vec<ActivationParams>,
    high: u8,
    layers: Vec<Option<Layer>>,
}

impl IntegerModel {
    /// Packs and plans `model` for `isa`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the layers and activations do not fit the graph.
    pub fn compile(model: &QuantizedModel, isa: Isa) -> Result<Self, RuntimeError> {
        let plan = Plan::new(model.graph.blocks()?)?;
        check::check(model, &plan)?;
        let kind = match model.method {
            Method::Dynamic => Kind::Dynamic(DynamicModel::new(model, plan, isa)),
            Method::WeightOnly => Kind::WeightOnly(FloatModel::dequantized(model, plan, isa)),
            Method::Static => Kind::Static(Engine::new(IntegerArithmetic::new(
                model,
                plan,
                isa,
                Bits::WhereTheyFit,
            )?)),
        };
        Ok(Self {
            graph: model.graph.clone(),
            kind,
        })
    }
}

impl Model for IntegerModel {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn run(&self, images: &[u8], logits: &mut [f32]) {
        let count = self.count(images);
        assert_eq!(
            logits.len(),
            count * self.graph.classes(),
            "one row of logits per image"
        );
        match &self.kind {
            Kind::Static(engine) => engine.run(images, count, logits),
            Kind::Dynamic(model) => drop(model.run(images, count, logits)),
            Kind::WeightOnly(model) => model.run(images, logits),
        }
    }

    fn profile(&self, images: &[u8]) -> Vec<LayerProfile> {
        let count = self.count(images);
        let mut logits = vec![0.0; count * self.graph.classes()];
        match &self.kind {
            Kind::Static(engine) => engine.profile(images, count, &mut logits),
            Kind::Dynamic(model) => model.run(images, count, &mut logits),
            Kind::WeightOnly(model) => model.profile(images),
        }
    }
}

/// The image's parameters, and by how many steps its zero point differs from the real zero.
pub(crate) fn pixel_params(graph: &Graph) -> (ActivationParams, f64) {
    let pixel = PixelMap::of(graph);
    let zero = -f64::from(pixel.shift) / f64::from(pixel.scale);
    let zero_point = zero.round_ties_even().clamp(0.0, 255.0) as u8;
    (
        ActivationParams {
            scale: pixel.scale,
            zero_point,
        },
        f64::from(zero_point) - zero,
    )
}

impl IntegerArithmetic {
    fn new(model: &QuantizedModel, plan: Plan, isa: Isa, bits: Bits) -> Result<Self, RuntimeError> {
        let (pixels, _) = pixel_params(&model.graph);
        let logits = ActivationParams {
            scale: 1.0,
            zero_point: 0,
        };
        let mut activations = vec![pixels];
        activations.extend(
            model.activations[1..]
                .iter()
                .map(|params| params.unwrap_or(logits)),
        );
        let layers = plan
            .blocks
            .list()
            .iter()
            .zip(&model.layers)
            .map(|(block, layer)| {
                let layer = layer.as_ref()?;
                let new = Layer::new(block, layer, &activations, &model.graph, &plan, isa);
                // Pixels have 8 bits whatever the activations have.
                let single = model.activation_bits == 1 && layer.bits == 1 && block.inputs[0] != 0;
                Some(if single && bits == Bits::WhereTheyFit {
                    let shape = block.weight_shape().expect("checked");
                    new.in_bits(BitWeights::pack(isa, &layer.weights, shape))
                } else {
                    new
                })
            })
            .collect();
        let high = level_max(model.activation_bits);
        Ok(Self {
            plan,
            isa,
            activations,
            high,
            layers,
        })
    }
}

impl Arithmetic for IntegerArithmetic {
    type Item = u8;

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn halo_value(&self, value: usize) -> u8 {
        self.activations[value].zero_point
    }

    fn load(&self, rows: &[u8], out: &mut [u8]) {
        let layout = &self.plan.layouts[0];
        let row_len = layout.w * layout.c;
        for (row, pixels) in rows.chunks_exact(row_len).enumerate() {
            let start = row * layout.row_stride;
            out[start..][..row_len].copy_from_slice(pixels);
        }
    }

    fn least_shared_macs(&self) -> u64 {
        match self.isa.level() {
            Level::Portable => 1 << 12,
            Level::Amx => 1 << 22,
            _ => 1 << 20,
        }
    }

    /// Matrix tiles have the weights laid out again for each rectangle.
    fn prefers_rows(&self) -> bool {
        self.isa.level() == Level::Amx
    }

    fn block(&self, call: Call<'_, u8>) {
        let plan = &self.plan;
        let Call {
            index,
            inputs,
            rows,
            columns,
            images,
            out,
            ..
        } = call;
        let block = &plan.blocks.list()[index];
        let input = &plan.layouts[block.inputs[0]];
        let params = self.activations[index + 1];
        match block.kind {
            BlockKind::Conv { padding, .. } => {
                let (geometry, start) = plan.conv_columns(index, &columns);
                let view = &inputs[0][input.offset(padding) + start..];
                self.weighted(index, &geometry, rows, view, out);
            }
            BlockKind::Linear => {
                self.weighted(index, &plan.linear(index, images), 0..1, inputs[0], out);
            }
            _ => {
                let Out::Value(out) = out else {
                    unreachable!("the last block has weights")
                };
                for image in 0..images {
                    self.unweighted(index, image, inputs, params, out);
                }
            }
        }
    }
}

impl IntegerArithmetic {
    fn weighted(
        &self,
        index: usize,
        geometry: &ConvGeometry,
        rows: std::ops::Range<usize>,
        view: &[u8],
        out: Out<'_, u8>,
    ) {
        let layer = self.layers[index].as_ref().expect("checked");
        let Layer {
            weights,
            acc_offset,
            multiplier,
            bias,
        } = layer;
        let relu = self.plan.blocks.list()[index].relu;
        let zero_point = self.activations[index + 1].zero_point;
        match out {
            Out::Value(out) => {
                let requantize = u8i8::Requantize {
                    acc_offset,
                    multiplier,
                    bias,
                    zero_point: i32::from(zero_point),
                    low: if relu { zero_point } else { 0 },
                    high: self.high,
                };
                match weights {
                    Weights::Bytes(weights) => {
                        u8i8::conv_u8(weights, geometry, rows, view, &requantize, out);
                    }
                    Weights::Bits(weights) => {
                        let (signs, geometry) = in_words(self.isa, geometry, &rows, view);
                        let (rows, signs) = (0..rows.len(), signs.with_slack());
                        bits::conv_u8(weights, &geometry, rows, signs, &requantize, out);
                    }
                }
            }
            Out::Logits(out) => {
                let dequantize = u8i8::Dequantize {
                    acc_offset,
                    multiplier,
                    bias,
                    relu,
                };
                match weights {
                    Weights::Bytes(weights) => {
                        u8i8::conv_f32(weights, geometry, rows, view, &dequantize, out);
                    }
                    Weights::Bits(weights) => {
                        let (signs, geometry) = in_words(self.isa, geometry, &rows, view);
                        let (rows, signs) = (0..rows.len(), signs.with_slack());
                        bits::conv_f32(weights, &geometry, rows, signs, &dequantize, out);
                    }
                }
            }
        }
    }

    fn unweighted(
        &self,
        index: usize,
        image: usize,
        inputs: [&[u8]; 2],
        params: ActivationParams,
        out: &mut [u8],
    ) {
        let plan = &self.plan;
        let block = &plan.blocks.list()[index];
        let input = &plan.layouts[block.inputs[0]];
        let output = plan.output(index);
        let view = &inputs[0][image * input.image_len + input.offset(0)..];
        let out = &mut out[image * output.image_len..];
        let from = self.activations[block.inputs[0]];
        let low = if block.relu { params.zero_point } else { 0 };
        let ratio = |params_in: ActivationParams| {
            (f64::from(params_in.scale) / f64::from(params.scale)) as f32
        };
        match block.kind {
            BlockKind::Add => {
                let second = &plan.layouts[block.inputs[1]];
                let other = self.activations[block.inputs[1]];
                let sum = quantize::AddU8 {
                    zero_point_a: from.zero_point,
                    multiplier_a: ratio(from),
                    zero_point_b: other.zero_point,
                    multiplier_b: ratio(other),
                    zero_point: params.zero_point,
                    low,
                    high: self.high,
                };
                let other = &inputs[1][image * second.image_len + second.offset(0)..];
                let len = output.w * output.c;
                for row in 0..output.h {
                    let a = &view[row * input.row_stride..][..len];
                    let b = &other[row * second.row_stride..][..len];
                    let out = &mut out[row * output.row_stride..][..len];
                    quantize::add_u8(self.isa, a, b, &sum, out);
                }
            }
            BlockKind::GlobalAvgPool => {
                let mean = quantize::AvgPoolU8 {
                    zero_point_in: from.zero_point,
                    multiplier: (f64::from(ratio(from)) / (input.h * input.w) as f64) as f32,
                    zero_point: params.zero_point,
                    low,
                    high: self.high,
                };
                quantize::global_avg_pool_u8(
                    self.isa,
                    view,
                    input.h,
                    input.w,
                    input.c,
                    input.row_stride,
                    &mean,
                    &mut out[..output.c],
                );
            }
            _ => self.elementwise(block, view, input.row_stride, from, params, output, out),
        }
    }

    /// ReLU and max-pool that stand alone: rare, so plain loops.
    #[allow(clippy::too_many_arguments)]
    fn elementwise(
        &self,
        block: &Block,
        view: &[u8],
        in_row_stride: usize,
        from: ActivationParams,
        to: ActivationParams,
        output: &super::plan::Layout,
        out: &mut [u8],
    ) {
        let multiplier = (f64::from(from.scale) / f64::from(to.scale)) as f32;
        let low = if block.relu { to.zero_point } else { 0 };
        for row in 0..output.h {
            for column in 0..output.w {
                for c in 0..output.c {
                    let taps = (0..block.pool * block.pool).map(|tap| {
                        let (dy, dx) = (tap / block.pool, tap % block.pool);
                        view[(row * block.pool + dy) * in_row_stride
                            + (column * block.pool + dx) * output.c
                            + c]
                    });
                    let best = taps.max().unwrap_or(0);
                    let centered = f32::from(best) - f32::from(from.zero_point);
                    let level =
                        (centered * multiplier).round_ties_even() + f32::from(to.zero_point);
                    out[row * output.row_stride + column * output.c + c] =
                        level.clamp(f32::from(low), f32::from(self.high)) as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
