//! Batch-norms right behind a convolution that were not folded into it.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{DEQUANTIZE, QUANTIZE, has_fixed_activations, is, only_reader};
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "unfolded-batch-norm",
    looks_at: LooksAt::OnnxFile,
    finds: "BatchNormalization right behind a convolution of a quantized model",
    source: "onnxruntime#9938, opencv_zoo#239; ONNX Runtime's warning to run its pre-processing first",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = patient.onnx.as_ref().filter(|it| has_fixed_activations(it)) else {
        return Ok(vec![]);
    };
    let norms = contents
        .nodes
        .iter()
        .filter(|node| node.op == "BatchNormalization");
    let names: Vec<&str> = norms
        .filter(|node| is_behind_conv(contents, node))
        .map(|node| node.name.as_str())
        .collect();
    if names.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} right behind a convolution: {}",
            plural::of(names.len(), "batch-norm"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "a pass in f32 over each of these activations, and a rounding more between convolution and norm".into(),
        remedy: "fold before quantizing: python -m onnxruntime.quantization.preprocess, or lowbit quantize, which folds by itself".into(),
    }])
}

fn is_behind_conv(contents: &Contents, node: &StoredNode) -> bool {
    let mut value = node.input(0);
    // A pair may stand between.
    for _ in 0..3 {
        let Some(maker) = value.and_then(|value| contents.maker(value)) else {
            return false;
        };
        if !is(maker, DEQUANTIZE) && !is(maker, QUANTIZE) {
            return maker.op == "Conv" && only_reader(contents, maker.output()).is_some();
        }
        value = maker.input(0);
    }
    false
}
