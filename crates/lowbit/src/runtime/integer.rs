//! The integer path: u8 between the layers, packed weights, one rounding rule.

use super::dynamic::DynamicModel;
use super::engine::{Arithmetic, Call, Engine, Out};
use super::float::FloatModel;
use super::plan::Plan;
use super::{LayerProfile, Model, RuntimeError};
use crate::bits::ActivationBits;
use crate::graph::{Block, BlockKind, Graph, pixel_params};
use crate::quant::{
    ActivationParams, ActivationQuant, InputParams, Levels, Product, ProductConstants,
    QuantizedModel, Requant, move_to_grid, ratio,
};
use lowbit_kernels::{ConvGeometry, Isa, Level, quantize};

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

/// A layer's weights and the constants of its epilogue.
struct Layer {
    product: Product,
    constants: ProductConstants,
}

/// Whether 1-bit products run where both sides have one bit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    WhereTheyFit,
    #[cfg(test)]
    Never,
}

impl IntegerModel {
    /// Packs and plans `model` for `isa`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the layers and activations do not fit the graph.
    pub fn compile(model: &QuantizedModel, isa: Isa) -> Result<Self, RuntimeError> {
        let plan = Plan::new(model.graph.blocks()?)?;
        model.validate()?;
        if let Some(last) = plan.blocks.list().last()
            && !last.has_weights()
        {
            return Err(RuntimeError::Unsupported {
                layer: last.name.clone(),
                reason: "the last layer must be a convolution or a linear layer".into(),
            });
        }
        let kind = match model.method {
            ActivationQuant::Dynamic => Kind::Dynamic(DynamicModel::new(model, plan, isa)),
            ActivationQuant::WeightOnly => {
                Kind::WeightOnly(FloatModel::dequantized(model, plan, isa))
            }
            ActivationQuant::Static => {
                let arithmetic = IntegerArithmetic::new(model, plan, isa, Bits::WhereTheyFit);
                Kind::Static(Engine::new(arithmetic))
            }
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

impl IntegerArithmetic {
    /// Of a checked model.
    fn new(model: &QuantizedModel, plan: Plan, isa: Isa, bits: Bits) -> Self {
        let pixels = pixel_params(&model.graph);
        let logits = ActivationParams {
            scale: 1.0,
            zero_point: 0,
        };
        let mut activations = vec![pixels.params];
        let inner = model.activations[1..].iter();
        activations.extend(inner.map(|params| params.unwrap_or(logits)));
        let layer = |(index, block): (usize, &Block)| {
            let layer = model.layers[index].as_ref()?;
            let from = block.inputs[0];
            // Pixels have 8 bits whatever the activations have.
            let signs = model.activation_bits == ActivationBits::B1
                && from != 0
                && bits == Bits::WhereTheyFit;
            let shape = block.weight_shape()?;
            let product = Product::of_layer(layer, shape, isa, signs);
            let input = match from {
                0 => pixels,
                _ => InputParams::from(activations[from]),
            };
            let (scale, bias) = (&layer.scale, Some(&layer.bias[..]));
            let output = Some(activations[index + 1]);
            let requant = Requant::new(product.sums(), scale, bias, input, output);
            let constants = product.constants(requant);
            Some(Layer { product, constants })
        };
        let layers = plan.blocks.list().iter().enumerate().map(layer).collect();
        let high = model.activation_bits.level_max();
        Self {
            plan,
            isa,
            activations,
            high,
            layers,
        }
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
        let Layer { product, constants } = self.layers[index].as_ref().expect("checked");
        let relu = self.plan.blocks.list()[index].relu;
        let zero_point = self.activations[index + 1].zero_point;
        match out {
            Out::Value(out) => {
                let levels = Levels {
                    zero_point,
                    low: if relu { zero_point } else { 0 },
                    high: self.high,
                };
                product.run_u8(constants, levels, geometry, rows, view, out);
            }
            Out::Logits(out) => product.run_f32(constants, relu, geometry, rows, view, out),
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
        match block.kind {
            BlockKind::Add => {
                let second = &plan.layouts[block.inputs[1]];
                let other = self.activations[block.inputs[1]];
                let sum = quantize::AddU8 {
                    zero_point_a: from.zero_point,
                    multiplier_a: ratio(from, params),
                    zero_point_b: other.zero_point,
                    multiplier_b: ratio(other, params),
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
                    multiplier: (f64::from(ratio(from, params)) / (input.h * input.w) as f64)
                        as f32,
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
        let multiplier = ratio(from, to);
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
                    out[row * output.row_stride + column * output.c + c] =
                        move_to_grid(best, from, to, multiplier, [low, self.high]);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "integer_tests.rs"]
mod tests;
