//! What the file holds against what its bits should take.

use super::super::finding::{Finding, Level};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::LabError;
use lowbit::format::StoredModel;
use std::collections::HashSet;

pub(in super::super) const RULE: Rule = Rule {
    name: "size",
    looks_at: LooksAt::File,
    finds: "a file that is larger than its weights take in their bits",
    source: "TensorRT#1690, Paddle2ONNX#846, onnxruntime#21277 (tied weights twice), opencv_zoo#239 (120 MB for 26)",
    look,
};

/// What names, shapes and the graph may take besides: a fifth, and this many bytes.
const BESIDES: u64 = 128 << 10;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (expected, what) = match (&patient.onnx, &patient.model) {
        (Some(contents), _) => {
            let of = |tensor: &lowbit_onnx::StoredTensor| {
                let bits = u64::from(tensor.element.bits().unwrap_or(8));
                (tensor.elements() as u64 * bits).div_ceil(8)
            };
            // What nobody reads, or what is there twice, is not needed.
            let read: HashSet<&str> = contents
                .nodes
                .iter()
                .flat_map(|node| &node.inputs)
                .map(String::as_str)
                .collect();
            let needed = contents.tensors.iter();
            let needed =
                needed.filter(|(name, _)| read.contains(name.as_str()) || contents.is_output(name));
            (
                needed.map(|(_, tensor)| of(tensor)).sum(),
                "tensors that a node reads",
            )
        }
        (None, Ok(StoredModel::Float { graph, .. })) => {
            (4 * graph.parameter_count() as u64, "parameters of 32 bits")
        }
        (None, Ok(StoredModel::Quantized(model))) => {
            let bytes = patient.products.iter().map(|product| {
                let row = (product.taps() as u64 * u64::from(product.bits)).div_ceil(8);
                // A scale and a bias for each channel.
                (row + 8) * product.filters as u64
            });
            let float = model.float.layers.values();
            let float = float.map(|layer| 4 * (layer.weights.len() + layer.bias.len()) as u64);
            let bytes = bytes.sum::<u64>() + float.sum::<u64>();
            (bytes, "packed weights, scales and biases")
        }
        (None, Err(_)) => return Ok(vec![]),
    };
    if patient.bytes <= expected + expected / 5 + BESIDES {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        places: vec![],
        evidence: format!("{} bytes on disk; its {what} take {expected}", patient.bytes),
        cost: format!("{} bytes", patient.bytes - expected),
        remedy: "drop tensors that nothing reads and metadata (onnxsim, or lowbit export, which writes none)".into(),
    }])
}
