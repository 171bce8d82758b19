//! The integer path: u8 between the layers, packed weights, one rounding rule.

use super::dynamic::DynamicModel;
use super::engine::{Arithmetic, Call, Engine, Out};
use super::float::{FloatModel, PixelMap};
use super::plan::Plan;
use super::{LayerProfile, Model, RuntimeError};
use crate::graph::{Block, BlockKind, Graph};
use crate::quant::{ActivationParams, Method, QuantizedLayer, QuantizedModel, level_max};
use lowbit_kernels::bits::{self, BitWeights};
use lowbit_kernels::packed::WeightWidth;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, quantize, u8i8};

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

struct Layer {
    weights: Weights,
    acc_offset: Vec<i32>,
    multiplier: Vec<f32>,
    bias: Vec<f32>,
}

/// A layer's weights for the kernel that multiplies them.
enum Weights {
    /// With u8 activations.
    Bytes(u8i8::PackedWeights),
    /// With 1-bit activations.
    Bits(BitWeights),
}

impl IntegerModel {
    /// Packs and plans `model` for `isa`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the layers and activations do not fit the graph.
    pub fn compile(model: &QuantizedModel, isa: Isa) -> Result<Self, RuntimeError> {
        let plan = Plan::new(model.graph.blocks()?)?;
        check(model, &plan)?;
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

/// Whether layers and activations are those of the graph.
fn check(model: &QuantizedModel, plan: &Plan) -> Result<(), RuntimeError> {
    let blocks = plan.blocks.list();
    let wrong = |layer: &str, reason: String| RuntimeError::Quantization {
        layer: layer.to_owned(),
        reason,
    };
    if model.layers.len() != blocks.len() || model.activations.len() != blocks.len() + 1 {
        let reason = format!("{} layers for {} blocks", model.layers.len(), blocks.len());
        return Err(wrong(model.graph.name(), reason));
    }
    for (index, block) in blocks.iter().enumerate() {
        match (&model.layers[index], block.weight_shape()) {
            (None, None) => {}
            (Some(layer), Some(shape)) => {
                let channels = shape.out_channels;
                if layer.weights.len() != shape.len()
                    || layer.scale.len() != channels
                    || layer.bias.len() != channels
                {
                    return Err(wrong(&block.name, "weights of another shape".into()));
                }
                let width = WeightWidth::of_bits(layer.bits.into());
                let fits = |width: WeightWidth| {
                    layer
                        .weights
                        .chunks_exact(shape.fan_in())
                        .all(|channel| width.fits(channel))
                };
                if !width.is_some_and(fits) {
                    let reason = format!("weights that {} bits cannot hold", layer.bits);
                    return Err(wrong(&block.name, reason));
                }
                let scales = layer.scale.iter().all(|&s| s.is_finite() && s > 0.0);
                if !scales || layer.bias.iter().any(|b| !b.is_finite()) {
                    return Err(wrong(
                        &block.name,
                        "a scale or bias that is not finite".into(),
                    ));
                }
            }
            _ => {
                return Err(wrong(
                    &block.name,
                    "weights where none belong, or none".into(),
                ));
            }
        }
        let last = index + 1 == blocks.len();
        if let (Method::Static, false) = (model.method, last) {
            let valid = model.activations[index + 1]
                .is_some_and(|params| params.scale.is_finite() && params.scale > 0.0);
            if !valid {
                return Err(wrong(&block.name, "no valid activation scale".into()));
            }
        }
        if last && !block.has_weights() {
            return Err(RuntimeError::Unsupported {
                layer: block.name.clone(),
                reason: "the last layer must be a convolution or a linear layer".into(),
            });
        }
    }
    Ok(())
}

/// A checked layer's weights in the kernel's order, at their own width.
pub(super) fn pack(layer: &QuantizedLayer, shape: WeightShape, isa: Isa) -> u8i8::PackedWeights {
    let width = WeightWidth::of_bits(layer.bits.into()).expect("checked");
    u8i8::PackedWeights::pack_width(isa, width, &layer.weights, shape)
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

impl Layer {
    fn new(
        block: &Block,
        layer: &QuantizedLayer,
        activations: &[ActivationParams],
        graph: &Graph,
        plan: &Plan,
        isa: Isa,
    ) -> Self {
        let shape = block.weight_shape().expect("checked");
        let input = activations[block.inputs[0]];
        let index = plan
            .blocks
            .list()
            .iter()
            .position(|b| b == block)
            .expect("one of the plan's");
        let output = activations[index + 1];
        let weights = pack(layer, shape, isa);
        let zero_point = i32::from(input.zero_point);
        let acc_offset: Vec<i32> = weights.sums().iter().map(|sum| -zero_point * sum).collect();
        // The image's real zero may lie between two integers; the difference goes into the bias.
        let residual = if block.inputs[0] == 0 {
            pixel_params(graph).1
        } else {
            0.0
        };
        let (s_x, s_y) = (f64::from(input.scale), f64::from(output.scale));
        let step = |c: usize| s_x * f64::from(layer.scale[c]);
        let multiplier = (0..shape.out_channels)
            .map(|c| (step(c) / s_y) as f32)
            .collect();
        let bias = (0..shape.out_channels)
            .map(|c| {
                let moved = step(c) * residual * f64::from(weights.sums()[c]);
                ((f64::from(layer.bias[c]) + moved) / s_y) as f32
            })
            .collect();
        Self {
            weights: Weights::Bytes(weights),
            acc_offset,
            multiplier,
            bias,
        }
    }

    /// The same layer for activations of one bit, to the same result: with q = (1 + σ)/2 and σ = ±1, Σ q·w is
    /// (Σ w + Σ σ·w)/2, so that twice the accumulator is Σ σ·w + Σ w, and half the multiplier (exact) undoes it.
    fn in_bits(self, weights: BitWeights) -> Self {
        let Weights::Bytes(bytes) = &self.weights else {
            unreachable!("layers start with bytes")
        };
        let twice = self.acc_offset.iter().zip(bytes.sums());
        Self {
            acc_offset: twice.map(|(offset, sum)| sum + 2 * offset).collect(),
            multiplier: self.multiplier.iter().map(|m| m / 2.0).collect(),
            bias: self.bias,
            weights: Weights::Bits(weights),
        }
    }
}

/// Whether 1-bit products run where both sides have one bit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    WhereTheyFit,
    #[cfg(test)]
    Never,
}

/// The rows of `view` that output rows `rows` need, as signs, and the geometry that reads them from their first row on.
fn in_words(
    isa: Isa,
    geometry: &ConvGeometry,
    rows: &std::ops::Range<usize>,
    view: &[u8],
) -> (AlignedBuffer<u32>, ConvGeometry) {
    let g = geometry;
    let first = rows.start * g.pool * g.stride;
    let out_h = rows.len() * g.pool;
    let in_h = (out_h.max(1) - 1) * g.stride + g.kernel_h;
    let in_w = (g.out_w.max(1) - 1) * g.stride + g.kernel_w;
    let words = bits::words(g.in_channels);
    let mut signs = AlignedBuffer::zeroed(in_h * in_w * words);
    for (row, signs) in signs.chunks_exact_mut(in_w * words).enumerate() {
        let start = (first + row) * g.in_row_stride;
        if g.in_pixel_stride == g.in_channels {
            let pixels = &view[start..][..in_w * g.in_channels];
            bits::pack_signs(isa, pixels, g.in_channels, 1, signs);
            continue;
        }
        for (pixel, signs) in signs.chunks_exact_mut(words).enumerate() {
            let channels = &view[start + pixel * g.in_pixel_stride..][..g.in_channels];
            bits::pack_signs(isa, channels, g.in_channels, 1, signs);
        }
    }
    let geometry = ConvGeometry {
        in_channels: words,
        in_pixel_stride: words,
        in_row_stride: in_w * words,
        out_h,
        ..*g
    };
    (signs, geometry)
}

impl Arithmetic for IntegerArithmetic {
    type Item = u8;

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn halo_value(&self, value: usize) -> u8 {
        self.activations[value].zero_point
    }

    fn load(&self, image: &[u8], out: &mut [u8]) {
        let layout = &self.plan.layouts[0];
        let row_len = layout.w * layout.c;
        for (row, pixels) in image.chunks_exact(row_len).enumerate() {
            let start = layout.offset(0) + row * layout.row_stride;
            out[start..][..row_len].copy_from_slice(pixels);
        }
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

/// Whether everything that an executor relies on holds.
pub(crate) fn check_quantized(model: &QuantizedModel) -> Result<(), RuntimeError> {
    check(model, &Plan::new(model.graph.blocks()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::zoo;
    use crate::quant::{PtqConfig, QuantScheme, quantize};
    use crate::{Shape, Weights as FloatWeights};
    use lowbit_kernels::random;

    #[test]
    fn one_bit_products_give_the_bits_that_bytes_give() {
        let classes: Vec<String> = (0..7).map(|class| class.to_string()).collect();
        for (name, size) in [("eurosat-cnn", 32), ("resnet8", 17), ("mlp", 9)] {
            let graph = zoo::build(name, Shape::new(size, size, 3), &classes).unwrap();
            let weights = FloatWeights::init(&graph, 3);
            let mut rng = random::stream(1, "test", 0);
            let images: Vec<u8> = (0..5 * graph.input().len())
                .map(|_| random::below(&mut rng, 256) as u8)
                .collect();
            let config = PtqConfig {
                weights: QuantScheme::weights(1),
                activation_bits: 1,
                edge_bits: 1,
                ..PtqConfig::default()
            };
            for isa in Isa::available() {
                let model = quantize(&graph, &weights, &config, &images, isa).unwrap();
                let logits = |bits: Bits, threads: usize| {
                    let plan = Plan::new(graph.blocks().unwrap()).unwrap();
                    let arithmetic = IntegerArithmetic::new(&model, plan, isa, bits).unwrap();
                    let used = |layer: &Option<Layer>| {
                        layer
                            .as_ref()
                            .is_some_and(|layer| matches!(layer.weights, Weights::Bits(_)))
                    };
                    assert_eq!(
                        arithmetic.layers.iter().any(used),
                        bits == Bits::WhereTheyFit
                    );
                    let engine = Engine::new(arithmetic);
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(threads)
                        .build()
                        .unwrap();
                    let mut logits = vec![0.0; 5 * 7];
                    pool.install(|| engine.run(&images, 5, &mut logits));
                    // One image over several threads as well.
                    let mut one = vec![0.0; 7];
                    let image = &images[..graph.input().len()];
                    pool.install(|| engine.run(image, 1, &mut one));
                    assert_eq!(one, logits[..7], "{name} on {isa}");
                    logits
                };
                let expected = logits(Bits::Never, 1);
                assert!(expected.iter().any(|&x| x != expected[0]));
                for threads in [1, 3] {
                    assert_eq!(
                        logits(Bits::WhereTheyFit, threads),
                        expected,
                        "{name} on {isa}"
                    );
                }
            }
        }
    }
}
