//! Weights that a quantized model stores in f32.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::has_fixed_activations;
use super::products::{is_product, weights_of};
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "float-weights",
    looks_at: LooksAt::OnnxFile,
    finds: "weights of a quantized model that stand in the file in f32, behind a QuantizeLinear or without one",
    source: "onnxruntime#15106, TensorRT#1690, Paddle2ONNX#846 (files that do not get smaller); what PyTorch's fake quantization exports",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    if !has_fixed_activations(contents) {
        return Ok(vec![]);
    }
    let (mut nodes, mut weights) = (Vec::new(), 0);
    for node in contents.nodes.iter().filter(|node| is_product(node)) {
        let tensor = match weights_of(contents, node) {
            Some(weights) => Some(weights.tensor),
            None => contents.constant(node, 1),
        };
        if let Some(tensor) = tensor.filter(|tensor| tensor.element.is_float()) {
            nodes.push(node.name.as_str());
            weights += tensor.elements();
        }
    }
    if nodes.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} of {} stand in the file in f32: {}",
            plural::of(weights, "weight"),
            plural::of(nodes.len(), "product"),
            some_of(&nodes)
        ),
        places: places(&nodes),
        cost: format!("{} bytes more than in 8 bits, on disk and while it loads", 3 * weights),
        remedy: "store the integers: fold each QuantizeLinear of a constant (AddQDQPairToWeight=False in onnxruntime.quantization)".into(),
    }])
}
