//! `lowbit inspect`: what a model file holds.

use super::Context;
use crate::failure::Failure;
use crate::table::table;
use lowbit::format::{self, StoredModel, TrainingRecord};
use lowbit::graph::{Graph, Op, Step, Unary};
use lowbit::quant::{ActivationQuant, QuantizedModel};
use lowbit::{WeightBits, WeightGrid};
use lowbit_lab::models::ModelFile;
use lowbit_lab::plural::grouped;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Results {
    file: String,
    bytes: u64,
    kind: String,
    model: String,
    input: [usize; 3],
    class_names: Vec<String>,
    parameters: usize,
    macs: u64,
    layers: Vec<LayerRow>,
    provenance: std::collections::BTreeMap<String, String>,
    /// What it was trained on; none where the file does not say.
    training: Option<TrainingRecord>,
}

#[derive(Serialize)]
struct LayerRow {
    name: String,
    op: String,
    output: String,
    macs: u64,
    weights: usize,
    weight_bits: Option<u8>,
    /// Where it is not what so many bits usually are.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_grid: Option<WeightGrid>,
    weight_bytes: usize,
    activation_scale: Option<f32>,
    activation_zero_point: Option<u8>,
}

pub(super) fn run(context: &Context, file: &Path) -> Result<(), Failure> {
    let ModelFile {
        stored,
        record: training,
        ..
    } = context.open(file)?;
    let (graph, quantized) = match &stored {
        StoredModel::Float { graph, .. } => (graph, None),
        StoredModel::Quantized(model) => (&model.graph, Some(model)),
    };
    let kind = quantized.map_or("fp32".to_owned(), |model| match model.method {
        ActivationQuant::WeightOnly => "weight-only".into(),
        method => format!("integer, {method}"),
    });
    let results = Results {
        file: file.display().to_string(),
        bytes: std::fs::metadata(file).map_or(0, |file| file.len()),
        kind,
        model: graph.name().to_owned(),
        input: [graph.input().h(), graph.input().w(), graph.input().c()],
        class_names: graph.class_names().to_vec(),
        parameters: graph.parameter_count(),
        macs: graph.macs(),
        layers: layers(graph, quantized)?,
        provenance: quantized
            .map(|model| model.provenance.clone())
            .unwrap_or_default(),
        training,
    };
    context.output.results(&results, || report(&results))
}

fn layers(graph: &Graph, quantized: Option<&QuantizedModel>) -> Result<Vec<LayerRow>, Failure> {
    let program = graph.program()?;
    let row = |(index, step): (usize, &Step)| {
        let weights = step
            .weight_extents()
            .map_or(0, |extents| extents.iter().product());
        let bits = match quantized {
            None => step.has_weights().then_some(32),
            Some(model) if model.float.layers.contains_key(&index) => Some(32),
            Some(model) => model.layers[index].as_ref().map(|layer| layer.bits.get()),
        };
        let rows = step.weight_extents().map_or(0, |[out, ..]| out);
        let bytes = match bits {
            Some(bits) => match WeightBits::try_from(bits) {
                Ok(bits) => rows * format::packed_len(weights / rows.max(1), bits),
                Err(_) => 4 * weights,
            },
            None => 0,
        };
        let activation = quantized.and_then(|model| model.activations[index + 1]);
        LayerRow {
            name: step.name.clone(),
            op: describe(step),
            output: step.out_shape.to_string(),
            macs: step.macs,
            weights,
            weight_bits: bits,
            weight_grid: quantized
                .and_then(|model| model.layers[index].as_ref())
                .and_then(|layer| match layer.bits {
                    WeightBits::Ternary => Some(WeightGrid::MidTread),
                    WeightBits::Odd4 => Some(WeightGrid::MidRise),
                    _ => None,
                }),
            weight_bytes: bytes,
            activation_scale: activation.map(|params| params.scale),
            activation_zero_point: activation.map(|params| params.zero_point),
        }
    };
    Ok(program.steps().iter().enumerate().map(row).collect())
}

fn describe(step: &Step) -> String {
    let pair = |[a, b]: [usize; 2]| match a == b {
        true => a.to_string(),
        false => format!("{a}×{b}"),
    };
    let mut text = match step.op {
        Op::Conv(conv) => {
            let [rows, columns] = conv.kernel;
            let mut text = format!("conv {rows}×{columns}");
            if conv.stride != [1, 1] {
                text += &format!(" /{}", pair(conv.stride));
            }
            let [top, left, bottom, right] = conv.padding;
            if conv.padding == [top; 4] && top > 0 {
                text += &format!(" pad {top}");
            } else if top + left + bottom + right > 0 {
                text += &format!(" pad {top},{left},{bottom},{right}");
            }
            if conv.dilation != [1, 1] {
                text += &format!(" dilation {}", pair(conv.dilation));
            }
            if conv.groups > 1 {
                text += &format!(" groups {}", conv.groups);
            }
            text
        }
        Op::Linear(_) => "linear".into(),
        Op::Add => "add".into(),
        Op::Mul => "mul".into(),
        Op::Sigmoid => "sigmoid".into(),
        Op::GlobalAvgPool => "mean".into(),
        Op::AvgPool(pool) => format!("mean {}×{}", pool.kernel[0], pool.kernel[1]),
        Op::MaxPool(pool) if pool.is_2x2() => "pool".into(),
        Op::MaxPool(pool) => format!("pool {}×{}", pool.kernel[0], pool.kernel[1]),
        Op::Relu => "ReLU".into(),
        Op::Unary(Unary::Clip { min, max }) => format!("clip {min}..{max}"),
        Op::Unary(Unary::HardSigmoid { .. }) => "hard sigmoid".into(),
        Op::Unary(Unary::HardSwish) => "hard swish".into(),
        Op::Unary(Unary::LeakyRelu { slope }) => format!("leaky ReLU {slope}"),
        Op::Unary(Unary::Gelu { .. }) => "GELU".into(),
        Op::Unary(Unary::Elu { .. }) => "ELU".into(),
        Op::Unary(Unary::Silu) => "SiLU".into(),
        Op::ChannelShuffle(shuffle) => format!("shuffle {}", shuffle.groups),
        Op::Slice(slice) => format!("slice {}..{}", slice.first, slice.first + slice.channels),
        Op::LayerNorm(_) => "layer norm".into(),
        Op::Attention(attention) => {
            let mut text = format!("attention {} heads", attention.heads);
            if attention.patch != [1, 1] {
                text += &format!(" patch {}", pair(attention.patch));
            }
            text
        }
        Op::Reshape(_) => "reshape".into(),
        Op::Prefix(prefix) => format!("prefix {}", prefix.tokens),
        other => format!("{other:?}").to_lowercase(),
    };
    for (present, name) in [
        (step.epilogue.batch_norm.is_some(), "BN"),
        (
            step.epilogue.relu && step.epilogue.ceiling.is_none(),
            "ReLU",
        ),
        (step.epilogue.ceiling == Some(6.0), "ReLU6"),
        (
            step.epilogue.ceiling.is_some_and(|ceiling| ceiling != 6.0),
            "clip",
        ),
        (step.epilogue.max_pool, "pool"),
    ] {
        if present {
            text += " ";
            text += name;
        }
    }
    text
}

fn report(results: &Results) -> String {
    let rows: Vec<Vec<String>> = results
        .layers
        .iter()
        .map(|layer| {
            let activation = layer.activation_scale.zip(layer.activation_zero_point);
            vec![
                layer.name.clone(),
                layer.op.clone(),
                layer.output.clone(),
                grouped(layer.weights as u64),
                match (layer.weight_bits, layer.weight_grid) {
                    (None, _) => String::new(),
                    (Some(bits), None) => bits.to_string(),
                    (Some(bits), Some(grid)) => format!("{bits} {grid}"),
                },
                grouped(layer.weight_bytes as u64),
                activation.map_or(String::new(), |(scale, zero)| format!("{scale:.5} @{zero}")),
            ]
        })
        .collect();
    let [h, w, c] = results.input;
    let mut text = format!(
        "{}: {}, {} bytes\n{}: input {h}×{w}×{c}, {} classes, {} parameters, {:.2} MMAC per image\n\n{}",
        results.file,
        results.kind,
        grouped(results.bytes),
        results.model,
        results.class_names.len(),
        grouped(results.parameters as u64),
        results.macs as f64 * 1e-6,
        table(
            &[
                "layer",
                "op",
                "output",
                "weights",
                "bits",
                "bytes",
                "activation"
            ],
            &rows
        ),
    );
    text += &match &results.training {
        None => "  trained on: unknown, the file does not say\n".to_owned(),
        Some(record) => format!(
            "  trained on: {}, {} training and {} test images, {}, seed {}\n",
            record.data, record.train_images, record.test_images, record.split.rule, record.seed
        ),
    };
    for (key, value) in &results.provenance {
        text += &format!("  {}: {value}\n", key.replace('_', " "));
    }
    text
}
