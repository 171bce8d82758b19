//! A Softmax between 8-bit grids.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{grid_of, is, plain, quantized_by};
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "softmax-int8",
    looks_at: LooksAt::OnnxFile,
    finds: "a Softmax whose result is rounded to 8 bits: probabilities below half a step are 0, and near classes become equal",
    source: "ONNX Runtime's `QLinearSoftmax`; what onnxruntime.quantization does with a Softmax at the end",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let found: Vec<(&str, Option<f32>)> = contents
        .nodes
        .iter()
        .filter_map(|node| Some((node.name.as_str(), step(contents, node)?)))
        .collect();
    if found.is_empty() {
        return Ok(vec![]);
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    let largest = found
        .iter()
        .filter_map(|(_, step)| *step)
        .fold(0.0, f32::max);
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} with a result of 8 bits, in steps of {largest:.2e}: {}",
            plural::of(names.len(), "Softmax node"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "probabilities below half a step are 0; images whose two best classes are within one get the first of them".into(),
        remedy: "leave the Softmax out of quantization (nodes_to_exclude), or out of the model: the largest logit is the same class".into(),
    }])
}

/// The step of a Softmax's result where it is rounded to 8 bits: of a node of pairs, or of an operator on integers.
fn step(contents: &Contents, node: &StoredNode) -> Option<Option<f32>> {
    match plain(&node.op) {
        "QLinearSoftmax" => {
            let scale = contents.constant(node, 3).and_then(|scale| scale.floats());
            Some(scale.and_then(|scale| scale.first().copied()))
        }
        "Softmax" => {
            let quantize = quantized_by(contents, node.output())?;
            let grid = grid_of(contents, quantize).filter(|grid| grid.element.bits() == Some(8))?;
            is(quantize, super::grids::QUANTIZE).then(|| grid.scale.first().copied())
        }
        _ => None,
    }
}
