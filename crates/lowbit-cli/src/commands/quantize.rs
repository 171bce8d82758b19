//! `lowbit quantize`: an integer model of a trained one.

use super::Context;
use crate::failure::Failure;
use lowbit::format::{self, StoredModel};
use lowbit::quant::{ActivationQuant, QuantizedModel};
use lowbit::quantize::{Passes, PtqConfig, quantize};
use lowbit_lab::Events;
use lowbit_lab::experiments::artifacts::check_output;
use lowbit_lab::experiments::inputs::FloatFile;
use lowbit_lab::experiments::unseen::{Choice, Measured, Purpose};
use lowbit_lab::models::Foreign;
use lowbit_lab::plural::grouped;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Results {
    input: String,
    output: String,
    method: ActivationQuant,
    /// Bits per weight.
    bits: u8,
    fp32_bytes: u64,
    quantized_bytes: u64,
    compression_ratio: f64,
}

pub(super) fn run(
    context: &Context,
    model: &Path,
    output: Option<PathBuf>,
    choice: Choice,
) -> Result<(), Failure> {
    let bits = context.config.widths.bits;
    let config = context.config.ptq(bits);
    let kind = match config.layer_bits.is_empty() {
        true => format!("int{bits}"),
        false => "mixed".into(),
    };
    let output = output.unwrap_or_else(|| default_output(model, &kind));
    let data = Path::new(&context.config.images.data);
    // Before anything is computed.
    let calibrated = config.needs_images();
    match calibrated {
        true => check_output(&output, &[model, data])?,
        false => check_output(&output, &[model])?,
    }
    let opened = context.open(model)?;
    if let (StoredModel::Quantized(quantized), Some(foreign)) = (&opened.stored, &opened.foreign) {
        return rewrite(context, (model, quantized, foreign), &output, choice);
    }
    let FloatFile {
        mut graph,
        weights,
        record,
        foreign,
    } = FloatFile::of(model, opened)?;
    let mut calibration = Vec::new();
    // A foreign model's preprocessing is checked, and its classes get their names, whatever the method.
    if calibrated || foreign.is_some() {
        let measured = Measured {
            file: model,
            graph: &graph,
            record: record.as_ref(),
            foreign: foreign.as_ref(),
        };
        let chosen = context.input_for(&measured, Purpose::Calibrate, choice)?;
        graph = graph.with_class_names(&chosen.input.data.class_names)?;
        if calibrated {
            calibration = chosen.input.calibration(&context.config)?;
        }
    }
    // Passes may take a minute.
    if calibrated && context.progress.terminal {
        context.progress.stage(&match config.passes {
            passes if passes == Passes::default() => "quantizing".into(),
            passes => format!("quantizing: {passes}"),
        });
    }
    let quantized = quantize(&graph, &weights, &config, &calibration, context.isa);
    context.progress.stop();
    let quantized = quantized?;
    for note in without_effect(context, &config, &quantized) {
        context.output.note(&note);
    }
    let quantized_bytes = format::save_quantized(&output, &quantized, record.as_ref())?;
    report(
        context,
        model,
        (&output, &quantized),
        bits.get(),
        quantized_bytes,
    )
}

/// What was asked for and changes nothing of this model, a line each.
fn without_effect(context: &Context, config: &PtqConfig, model: &QuantizedModel) -> Vec<String> {
    let widths = || model.layers.iter().flatten().map(|layer| layer.bits.get());
    let PtqConfig { passes, method, .. } = config;
    let weighs = passes.mse_weights || passes.gptq;
    let notes = [
        (
            *method == ActivationQuant::Dynamic && context.said.sets("observer"),
            "--observer has no effect: the dynamic method finds ranges when it runs",
        ),
        (
            context.said.sets("weight_grid") && !widths().any(|bits| matches!(bits, 2 | 4)),
            "--weight-grid has no effect: layers of 4 and 2 bits alone have a choice, and there are none",
        ),
        (
            weighs && widths().all(|bits| bits == 16),
            "the passes mse-weights and gptq have no effect: 16 bits are rounded to the nearest",
        ),
    ];
    let found = notes.into_iter().filter(|(is_so, _)| *is_so);
    found.map(|(_, note)| format!("note: {note}")).collect()
}

/// A model that another program quantized, as a file of lowbit's: its integers as they are.
fn rewrite(
    context: &Context,
    (file, model, foreign): (&Path, &QuantizedModel, &Foreign),
    output: &Path,
    choice: Choice,
) -> Result<(), Failure> {
    context.output.note(
        "it is quantized already: its integers are written as they are, and settings of quantization have no effect",
    );
    let measured = Measured {
        file,
        graph: &model.graph,
        record: None,
        foreign: Some(foreign),
    };
    let chosen = context.input_for(&measured, Purpose::Calibrate, choice)?;
    let named = QuantizedModel {
        graph: model
            .graph
            .clone()
            .with_class_names(&chosen.input.data.class_names)?,
        ..model.clone()
    };
    let bits = named.layers.iter().flatten().map(|layer| layer.bits.get());
    let bits = bits.min().unwrap_or(8);
    let bytes = format::save_quantized(output, &named, None)?;
    report(context, file, (output, &named), bits, bytes)
}

fn report(
    context: &Context,
    model: &Path,
    (output, quantized): (&Path, &QuantizedModel),
    bits: u8,
    quantized_bytes: u64,
) -> Result<(), Failure> {
    let fp32_bytes = std::fs::metadata(model).map_or(0, |file| file.len());
    let results = Results {
        input: model.display().to_string(),
        output: output.display().to_string(),
        method: quantized.method,
        bits,
        fp32_bytes,
        quantized_bytes,
        compression_ratio: fp32_bytes as f64 / quantized_bytes as f64,
    };
    context.output.results(&results, || {
        format!(
            "{}: {} bytes, {:.2}× smaller than {} ({} bytes)",
            results.output,
            grouped(quantized_bytes),
            results.compression_ratio,
            results.input,
            grouped(fp32_bytes),
        )
    })
}

/// Of the kind `int8`, `model_fp32.safetensors` becomes `model_int8.safetensors`, `m.safetensors` becomes `m_int8.safetensors`.
fn default_output(model: &Path, kind: &str) -> PathBuf {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_suffix("_fp32").unwrap_or(&stem);
    model.with_file_name(format!("{stem}_{kind}.safetensors"))
}
