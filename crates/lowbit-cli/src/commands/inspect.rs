//! `lowbit inspect`: what a model file holds.

use super::Context;
use crate::failure::Failure;
use crate::output::grouped;
use crate::table::table;
use lowbit::WeightBits;
use lowbit::format::{self, StoredModel};
use lowbit::graph::{Block, Graph};
use lowbit::quant::{Method, QuantizedModel};
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
}

#[derive(Serialize)]
struct LayerRow {
    name: String,
    op: String,
    output: String,
    macs: u64,
    weights: usize,
    weight_bits: Option<u8>,
    weight_bytes: usize,
    activation_scale: Option<f32>,
    activation_zero_point: Option<u8>,
}

pub(super) fn run(context: &Context, file: &Path) -> Result<(), Failure> {
    let stored = format::load(file)?;
    let (graph, quantized) = match &stored {
        StoredModel::Float { graph, .. } => (graph, None),
        StoredModel::Quantized(model) => (&model.graph, Some(model)),
    };
    let kind = quantized.map_or("fp32".to_owned(), |model| match model.method {
        Method::WeightOnly => "weight-only".into(),
        method => format!("integer, {method}"),
    });
    let results = Results {
        file: file.display().to_string(),
        bytes: std::fs::metadata(file).map_or(0, |file| file.len()),
        kind,
        model: graph.name().to_owned(),
        input: [graph.input().h, graph.input().w, graph.input().c],
        class_names: graph.class_names().to_vec(),
        parameters: graph.parameter_count(),
        macs: graph.macs(),
        layers: layers(graph, quantized)?,
        provenance: quantized
            .map(|model| model.provenance.clone())
            .unwrap_or_default(),
    };
    context.output.results(&results, || report(&results));
    Ok(())
}

fn layers(graph: &Graph, quantized: Option<&QuantizedModel>) -> Result<Vec<LayerRow>, Failure> {
    let blocks = graph.blocks()?;
    let row = |(index, block): (usize, &Block)| {
        let weights = block.weight_shape().map_or(0, |shape| shape.len());
        let bits = match quantized {
            None => block.has_weights().then_some(32),
            Some(model) => model.layers[index].as_ref().map(|layer| layer.bits.get()),
        };
        let rows = block.weight_shape().map_or(0, |shape| shape.out_channels);
        let bytes = match bits {
            Some(bits) => match WeightBits::try_from(bits) {
                Ok(bits) => rows * format::packed_len(weights / rows.max(1), bits),
                Err(_) => 4 * weights,
            },
            None => 0,
        };
        let activation = quantized.and_then(|model| model.activations[index + 1]);
        LayerRow {
            name: block.name.clone(),
            op: describe(block),
            output: block.out_shape.to_string(),
            macs: block.macs,
            weights,
            weight_bits: bits,
            weight_bytes: bytes,
            activation_scale: activation.map(|params| params.scale),
            activation_zero_point: activation.map(|params| params.zero_point),
        }
    };
    Ok(blocks.list().iter().enumerate().map(row).collect())
}

fn describe(block: &Block) -> String {
    use lowbit::graph::BlockKind;
    let mut text = match block.kind {
        BlockKind::Conv {
            kernel,
            stride,
            padding,
        } => {
            let mut text = format!("conv {kernel}×{kernel}");
            if stride > 1 {
                text += &format!(" /{stride}");
            }
            if padding > 0 {
                text += &format!(" pad {padding}");
            }
            text
        }
        BlockKind::Linear => "linear".into(),
        BlockKind::Add => "add".into(),
        BlockKind::GlobalAvgPool => "mean".into(),
        BlockKind::Elementwise => String::new(),
    };
    for (present, name) in [
        (block.batch_norm.is_some(), "BN"),
        (block.relu, "ReLU"),
        (block.pool == 2, "pool"),
    ] {
        if present {
            text += if text.is_empty() { "" } else { " " };
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
                layer
                    .weight_bits
                    .map_or(String::new(), |bits| bits.to_string()),
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
    for (key, value) in &results.provenance {
        text += &format!("  {}: {value}\n", key.replace('_', " "));
    }
    text
}
