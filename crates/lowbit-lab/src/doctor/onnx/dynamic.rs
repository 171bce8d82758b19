//! Dynamic quantization of convolutions.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::plain;
use crate::{LabError, plural};
use lowbit_onnx::{ElementType, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "dynamic-convolutions",
    looks_at: LooksAt::OnnxFile,
    finds: "ConvInteger: convolutions whose ranges are found at run time, slow, and with signed weights refused by older releases of ONNX Runtime",
    source: "onnxruntime#3130, #15888, #23985 (NOT_IMPLEMENTED with signed weights), #12854 (10 times slower); onnxruntime's own advice: static for CNNs",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let found: Vec<&StoredNode> = contents
        .nodes
        .iter()
        .filter(|node| plain(&node.op) == "ConvInteger")
        .collect();
    if found.is_empty() {
        return Ok(vec![]);
    }
    let signed = found.iter().filter(|node| {
        contents
            .constant(node, 1)
            .is_some_and(|w| w.element == ElementType::Int(8))
    });
    let signed = signed.count();
    let names: Vec<&str> = found.iter().map(|node| node.name.as_str()).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} find their ranges at run time, {signed} of them with signed weights: {}",
            plural::of(found.len(), "convolution"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "a pass over each activation for its range, f32 between all layers, and older releases of ONNX Runtime refuse signed weights".into(),
        remedy: "quantize statically, with calibration images: lowbit quantize MODEL --data DIR".into(),
    }])
}
