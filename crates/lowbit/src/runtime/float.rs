//! The f32 path: batch-norm folded, bias, ReLU and max-pool fused, weights packed once.

use super::engine::{Arithmetic, Call, Engine, Out};
use super::plan::Plan;
use super::{LayerProfile, Model, RuntimeError};
use crate::Weights;
use crate::graph::{Block, BlockKind, Graph, PixelMap, ValueId, fold_batch_norm};
use crate::pool::share;
use crate::quant::QuantizedModel;
use lowbit_kernels::{ConvGeometry, Isa, Level, WeightShape, float, quantize};

/// A graph compiled for f32 inference.
pub struct FloatModel {
    graph: Graph,
    engine: Engine<FloatArithmetic>,
}

struct FloatArithmetic {
    plan: Plan,
    isa: Isa,
    pixel: PixelMap,
    layers: Vec<Option<Layer>>,
}

struct Layer {
    /// Packed in parts of [`PART`] output channels where the layer is large and linear, else in one.
    weights: Vec<float::PackedWeights>,
    bias: Vec<f32>,
}

/// Output channels of a part: whole panels on every ISA.
const PART: usize = 32;

/// Weights from which on a linear layer is worth sharing over threads: 256 KiB, which take longer to read than a thread to
/// wake.
const LARGE: usize = 1 << 16;

impl FloatModel {
    /// Folds, packs and plans `weights` for `isa`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the weights do not fit the graph or the graph has a combination that cannot be run.
    pub fn compile(graph: &Graph, weights: &Weights, isa: Isa) -> Result<Self, RuntimeError> {
        weights.check(graph)?;
        let plan = Plan::new(graph.blocks()?)?;
        Ok(Self::of_layers(graph, plan, isa, |block, _| {
            fold_batch_norm(block, weights)
        }))
    }

    /// A checked weight-only model: its weights widened to f32.
    pub(super) fn dequantized(model: &QuantizedModel, plan: Plan, isa: Isa) -> Self {
        Self::of_layers(&model.graph, plan, isa, |_, index| {
            let layer = model.layers[index].as_ref().expect("checked");
            (layer.dequantized(), layer.bias.clone())
        })
    }

    /// `folded` gives the kernel and the bias of a block with weights.
    fn of_layers(
        graph: &Graph,
        plan: Plan,
        isa: Isa,
        folded: impl Fn(&Block, usize) -> (Vec<f32>, Vec<f32>),
    ) -> Self {
        let layer = |(index, block): (usize, &Block)| {
            let shape = block.weight_shape()?;
            let (kernel, bias) = folded(block, index);
            let part = match block.kind == BlockKind::Linear && shape.len() >= LARGE {
                true => PART,
                false => shape.out_channels,
            };
            let weights = kernel.chunks(part * shape.fan_in()).map(|kernel| {
                let out_channels = kernel.len() / shape.fan_in();
                let shape = WeightShape {
                    out_channels,
                    ..shape
                };
                float::PackedWeights::pack(isa, kernel, shape)
            });
            Some(Layer {
                weights: weights.collect(),
                bias,
            })
        };
        let layers = plan.blocks.list().iter().enumerate().map(layer).collect();
        let engine = Engine::new(FloatArithmetic {
            plan,
            isa,
            pixel: PixelMap::of(graph.normalization()),
            layers,
        });
        Self {
            graph: graph.clone(),
            engine,
        }
    }

    /// Number of values (the image, and one per block).
    pub(crate) fn values(&self) -> usize {
        self.engine.arithmetic.plan.layouts.len()
    }

    /// Runs `images` one by one and shows every value but the logits, a row at a time.
    pub(crate) fn observe(&self, images: &[u8], see: &mut dyn FnMut(ValueId, &[f32])) {
        self.engine.observe(images, self.count(images), see);
    }
}

impl Model for FloatModel {
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
        self.engine.run(images, count, logits);
    }

    fn profile(&self, images: &[u8]) -> Vec<LayerProfile> {
        let count = self.count(images);
        self.engine
            .profile(images, count, &mut vec![0.0; count * self.graph.classes()])
    }
}

impl Arithmetic for FloatArithmetic {
    type Item = f32;

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn halo_value(&self, _value: usize) -> f32 {
        0.0
    }

    fn load(&self, rows: &[u8], out: &mut [f32]) {
        let layout = &self.plan.layouts[0];
        let row_len = layout.w * layout.c;
        for (row, pixels) in rows.chunks_exact(row_len).enumerate() {
            let start = row * layout.row_stride;
            let out = &mut out[start..][..row_len];
            quantize::scale_u8(self.isa, pixels, self.pixel.scale, self.pixel.shift, out);
        }
    }

    fn least_shared_macs(&self) -> u64 {
        match self.isa.level() {
            Level::Portable => 1 << 12,
            _ => 1 << 18,
        }
    }

    fn block(&self, call: Call<'_, f32>) {
        let plan = &self.plan;
        let Call {
            index,
            inputs,
            rows,
            columns,
            team,
            images,
            out,
        } = call;
        let block = &plan.blocks.list()[index];
        let (Out::Value(out) | Out::Logits(out)) = out;
        let input = &plan.layouts[block.inputs[0]];
        let output = plan.output(index);
        match block.kind {
            BlockKind::Conv { padding, .. } => {
                let layer = self.layers[index]
                    .as_ref()
                    .expect("convolutions have weights");
                let epilogue = float::Epilogue {
                    bias: Some(&layer.bias),
                    relu: block.relu,
                };
                let (geometry, start) = plan.conv_columns(index, &columns);
                let view = &inputs[0][input.offset(padding) + start..];
                float::conv(&layer.weights[0], &geometry, rows, view, &epilogue, out);
            }
            BlockKind::Linear => {
                let layer = self.layers[index]
                    .as_ref()
                    .expect("linear layers have weights");
                let geometry = plan.linear(index, images);
                let part = |part: usize, out: &mut [f32]| {
                    let weights = &layer.weights[part];
                    let out_channels = weights.shape().out_channels;
                    let geometry = ConvGeometry {
                        out_channels,
                        ..geometry
                    };
                    let epilogue = float::Epilogue {
                        bias: Some(&layer.bias[part * PART..][..out_channels]),
                        relu: block.relu,
                    };
                    float::conv(weights, &geometry, 0..1, inputs[0], &epilogue, out);
                };
                if let Some(team) = team
                    && images == 1
                    && layer.weights.len() > 1
                {
                    // As many as threads, so that each of them finds the weights of the last image in its cache.
                    let parts = layer.weights.len().div_ceil(team.threads());
                    let outs = out[..geometry.out_channels].chunks_mut(parts * PART);
                    share(team, outs.enumerate().collect(), |(share, out)| {
                        for (number, out) in out.chunks_mut(PART).enumerate() {
                            part(share * parts + number, out);
                        }
                    });
                } else {
                    for number in 0..layer.weights.len() {
                        part(number, &mut out[number * PART..]);
                    }
                }
            }
            BlockKind::Add => {
                let second = &plan.layouts[block.inputs[1]];
                for image in 0..images {
                    for row in 0..output.h {
                        let a = image * input.image_len + input.offset(0) + row * input.row_stride;
                        let b =
                            image * second.image_len + second.offset(0) + row * second.row_stride;
                        let at = image * output.image_len + row * output.row_stride;
                        let len = output.w * output.c;
                        quantize::add_f32(
                            self.isa,
                            &inputs[0][a..][..len],
                            &inputs[1][b..][..len],
                            block.relu,
                            &mut out[at..][..len],
                        );
                    }
                }
            }
            BlockKind::GlobalAvgPool => {
                for image in 0..images {
                    let view = &inputs[0][image * input.image_len + input.offset(0)..];
                    let out = &mut out[image * output.image_len..][..output.c];
                    quantize::global_avg_pool_f32(
                        self.isa,
                        view,
                        input.h,
                        input.w,
                        input.c,
                        input.row_stride,
                        out,
                    );
                    if block.relu {
                        out.iter_mut().for_each(|x| *x = x.max(0.0));
                    }
                }
            }
            BlockKind::Elementwise => {
                for image in 0..images {
                    let view = &inputs[0][image * input.image_len + input.offset(0)..];
                    let out = &mut out[image * output.image_len..];
                    elementwise(block.relu, block.pool, view, input.row_stride, output, out);
                }
            }
        }
    }
}

/// ReLU and max-pool that stand alone: rare, so plain loops.
fn elementwise(
    relu: bool,
    pool: usize,
    view: &[f32],
    in_row_stride: usize,
    output: &super::plan::Layout,
    out: &mut [f32],
) {
    let channels = output.c;
    for row in 0..output.h {
        for column in 0..output.w {
            for c in 0..channels {
                let mut best = if relu { 0.0 } else { f32::NEG_INFINITY };
                for dy in 0..pool {
                    for dx in 0..pool {
                        let at =
                            (row * pool + dy) * in_row_stride + (column * pool + dx) * channels + c;
                        best = view[at].max(best);
                    }
                }
                out[row * output.row_stride + column * channels + c] = best;
            }
        }
    }
}
