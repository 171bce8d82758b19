//! Scales that are none.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{DEQUANTIZE, QUANTIZE, plain};
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "scales",
    looks_at: LooksAt::OnnxFile,
    finds: "scales that are zero, negative, not finite, or too small to divide by",
    source: "ONNX, QuantizeLinear (y = x / y_scale); onnxruntime#21000 (scales of 7.8e-10 and below)",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let mut wrong: Vec<(&str, f32)> = Vec::new();
    for node in &contents.nodes {
        let at: &[usize] = match plain(&node.op) {
            QUANTIZE | DEQUANTIZE => &[1],
            "QLinearConv" | "QLinearMatMul" => &[1, 4, 6],
            _ => &[],
        };
        let scales = at
            .iter()
            .filter_map(|&index| contents.constant(node, index)?.floats());
        let bad = scales
            .flatten()
            .find(|scale| !(scale.is_normal() && **scale > 0.0));
        wrong.extend(bad.map(|&scale| (node.name.as_str(), scale)));
    }
    let Some(&(name, scale)) = wrong.first() else {
        return Ok(vec![]);
    };
    let names: Vec<&str> = wrong.iter().map(|(name, _)| *name).collect();
    Ok(vec![Finding {
        level: Level::Error,
        rule: RULE.name.into(),
        evidence: format!(
            "{name} has the scale {scale:e}; {}: {}",
            plural::of(names.len(), "node"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "what goes through these nodes is NaN, infinite or one constant".into(),
        remedy: "calibrate again on images that reach these nodes; a value that is always 0 takes any scale, 1 say".into(),
    }])
}
