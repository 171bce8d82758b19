//! Convolutions that OpenVINO runs in f32, where their neighbors are integers.
//!
//! Its low-precision transformations need bytes in front of a convolution and symmetric 8-bit weights; what stands behind does not
//! matter to them. Files of operators on integers (QLinearConv) it does not read. Checked against the precisions that it
//! reports of 45 files (`bench/onnx/fusion.py`).

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{dequantized_by, grid_of, has_fixed_activations, plain};
use super::products::weights_of;
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};
use std::collections::BTreeMap;

pub(in super::super) const RULE: Rule = Rule {
    name: "openvino",
    looks_at: LooksAt::OnnxFile,
    finds: "convolutions of a quantized model that OpenVINO runs in f32, and files that it does not read",
    source: "OpenVINO 2026.4.1's own runtime precisions (`bench/onnx/fusion.py`); its low-precision transformations",
    look,
};

/// Why OpenVINO runs a convolution in f32; nothing where it runs in integers, or is none of pairs.
#[must_use]
pub fn float_in_openvino(contents: &Contents, node: &StoredNode) -> Option<String> {
    let bits_before = node
        .input(0)
        .and_then(|value| dequantized_by(contents, value))
        .and_then(|dequantize| grid_of(contents, dequantize))
        .map(|grid| grid.element.bits());
    match bits_before {
        None => return Some("no DequantizeLinear before it".into()),
        Some(Some(8)) => {}
        Some(bits) => return Some(format!("activations of {} bits", bits.unwrap_or(0))),
    }
    let Some(weights) = weights_of(contents, node) else {
        return Some("f32 weights".into());
    };
    match weights.grid.element.bits() {
        Some(8) => {}
        bits => return Some(format!("weights of {} bits", bits.unwrap_or(0))),
    }
    let [low, high] = weights.grid.element.limits()?;
    let middle = (low + high + 1).div_euclid(2);
    let is_symmetric = weights.grid.zero_point.iter().all(|&zero| zero == middle);
    (!is_symmetric).then(|| "asymmetric weights".into())
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = patient.onnx.as_ref().filter(|it| has_fixed_activations(it)) else {
        return Ok(vec![]);
    };
    let of_integers = contents
        .nodes
        .iter()
        .filter(|node| plain(&node.op).starts_with("QLinear"));
    let of_integers: Vec<&str> = of_integers.map(|node| node.name.as_str()).collect();
    if !of_integers.is_empty() {
        return Ok(vec![Finding {
            level: Level::Note,
            rule: RULE.name.into(),
            evidence: format!(
                "{} on integers: {}",
                plural::of(of_integers.len(), "operator"),
                some_of(&of_integers)
            ),
            places: places(&of_integers),
            cost: "OpenVINO does not read the file".into(),
            remedy: "write pairs instead (quant_format=QuantFormat.QDQ in onnxruntime.quantization, or lowbit export)".into(),
        }]);
    }
    let mut reasons = BTreeMap::<String, Vec<&str>>::new();
    let mut all = 0;
    for node in contents.nodes.iter().filter(|node| node.op == "Conv") {
        all += 1;
        if let Some(why) = float_in_openvino(contents, node) {
            reasons.entry(why).or_default().push(&node.name);
        }
    }
    if reasons.is_empty() {
        return Ok(vec![]);
    }
    let list: Vec<String> = reasons
        .iter()
        .map(|(why, nodes)| format!("{}: {why}", some_of(nodes)))
        .collect();
    let nodes: Vec<&str> = reasons.into_values().flatten().collect();
    Ok(vec![Finding {
        level: Level::Note,
        rule: RULE.name.into(),
        evidence: format!(
            "{} of {} run in f32 in OpenVINO: {}",
            nodes.len(),
            plural::of(all, "convolution"),
            list.join("; ")
        ),
        places: places(&nodes),
        cost: "f32's time there, and conversions around each".into(),
        remedy: "bytes in front and symmetric 8-bit weights, where it is to run in OpenVINO".into(),
    }])
}
