//! ReLUs that are apart from the product before them: a pair stands between.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{DEQUANTIZE, grid_of, is, is_redundant, only_reader, quantized_by};
use super::products::is_product;
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "relu-apart",
    looks_at: LooksAt::OnnxFile,
    finds: "a pair between a product and its ReLU or Clip: half of the levels stand for what is cut off",
    source: "onnxruntime#9425, #11660, PR#11696; `QDQKeepRemovableActivations` of onnxruntime.quantization",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let nodes: Vec<(&str, f64)> = contents
        .nodes
        .iter()
        .filter(|node| matches!(node.op.as_str(), "Relu" | "Clip"))
        .filter_map(|node| Some((node.name.as_str(), lost(contents, node)?)))
        .collect();
    if nodes.is_empty() {
        return Ok(vec![]);
    }
    let names: Vec<&str> = nodes.iter().map(|(name, _)| *name).collect();
    let share = nodes.iter().map(|(_, lost)| lost).sum::<f64>() / nodes.len() as f64;
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} behind a pair of its own, of whose levels {:.0} % on average stand for what it cuts off: {}",
            plural::of(nodes.len(), "activation"),
            100.0 * share,
            some_of(&names)
        ),
        places: places(&names),
        cost: "up to a bit of each activation, and a pass over it".into(),
        remedy: "no pair between a product and its ReLU; onnxruntime.quantization does so by itself unless activations are symmetric".into(),
    }])
}

/// The share of the levels in front of an activation that it cuts off; none where no product with a pair stands before it.
fn lost(contents: &Contents, node: &StoredNode) -> Option<f64> {
    let dequantize = contents
        .maker(node.input(0)?)
        .filter(|maker| is(maker, DEQUANTIZE))?;
    let grid = grid_of(contents, dequantize)?;
    let quantize = contents.maker(dequantize.input(0)?)?;
    let product = contents.maker(quantize.input(0)?)?;
    let alone = only_reader(contents, dequantize.output()).is_some();
    if !is_product(product) || !alone || is_redundant(contents, node, &grid) {
        return None;
    }
    quantized_by(contents, node.output())?;
    let [low, high] = grid.reach()?;
    let kept = high.max(0.0) / (high - low).max(f64::MIN_POSITIVE);
    Some(1.0 - kept.min(1.0))
}
