//! Products that were left in f32 on purpose, and that ONNX Runtime quantizes all the same, with one scale for all channels.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::onnx_runtime::placements;
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "quantized-at-load",
    looks_at: LooksAt::OnnxFile,
    finds: "f32 weights between pairs (excluded nodes), which ONNX Runtime makes 8-bit integers with one scale per tensor",
    source: "ONNX Runtime 1.32, `weight_bias_quantization.cc`; seen in its optimized graph of `excluded.onnx` (`bench/onnx/fusion.py`)",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let placed = placements(contents);
    let nodes: Vec<&str> = placed
        .iter()
        .filter(|placement| placement.quantized_at_load)
        .map(|placement| placement.node.name.as_str())
        .collect();
    if nodes.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} with f32 weights between quantized values: {}",
            plural::of(nodes.len(), "product"),
            some_of(&nodes)
        ),
        places: places(&nodes),
        cost: "ONNX Runtime rounds these weights to 8 bits with one scale per tensor when it loads the file, the coarsest form there is, and the file holds them in f32".into(),
        remedy: "quantize them per channel, or take the pair behind them away so that they stay in f32".into(),
    }])
}
