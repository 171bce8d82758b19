//! `lowbit export`: a model file as ONNX.

use super::Context;
use crate::failure::Failure;
use lowbit_lab::experiments::artifacts::check_output;
use lowbit_lab::models::{ExportInput, ModelFile, export, is_onnx};
use lowbit_lab::plural::grouped;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Results {
    input: String,
    output: String,
    opset: i64,
    input_bytes: u64,
    output_bytes: u64,
    notes: Vec<String>,
}

pub(super) fn run(
    context: &Context,
    model: &Path,
    output: &Path,
    input: ExportInput,
    reduce_range: bool,
) -> Result<(), Failure> {
    // Before anything is computed.
    check_output(output, &[model])?;
    if !is_onnx(output) {
        return Err(Failure::Input(format!(
            "--to {}: ONNX files are written: give a name that ends with .onnx",
            output.display()
        )));
    }
    let ModelFile { stored, .. } = context.open(model)?;
    let exported = export(&stored, input, reduce_range, model)?;
    for note in &exported.notes {
        context.output.note(&format!("note: {note}"));
    }
    let output_bytes = exported.write(output).map_err(lowbit_lab::LabError::from)?;
    let results = Results {
        input: model.display().to_string(),
        output: output.display().to_string(),
        opset: exported.opset,
        input_bytes: std::fs::metadata(model).map_or(0, |file| file.len()),
        output_bytes,
        notes: exported.notes,
    };
    context.output.results(&results, || {
        format!(
            "{}: {} bytes, opset {}",
            results.output,
            grouped(output_bytes),
            results.opset
        )
    })
}
