//! Scales per channel that an opset ignores, or of an axis that does not exist or is not that of the channels.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{DEQUANTIZE, QUANTIZE, is, plain};
use super::products::{channel_axis, is_product, weights_of};
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "channel-axis",
    looks_at: LooksAt::OnnxFile,
    finds: "scales per channel below opset 13, of an axis that does not exist, of another number than its channels, or along the inputs",
    source: "ONNX, DequantizeLinear-10 (scalars alone) and -13 (`axis`); neural-compressor#819, nncf PR#1537, onnxruntime#17718, #12800",
    look,
};

/// The first opset whose pairs have an axis.
const FIRST: i64 = 13;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let pairs = contents
        .nodes
        .iter()
        .filter(|node| is(node, QUANTIZE) || is(node, DEQUANTIZE));
    let (mut ignored, mut impossible) = (Vec::new(), Vec::new());
    for node in pairs {
        let Some(scales) = contents.constant(node, 1).map(|scale| scale.elements()) else {
            continue;
        };
        let is_blocked = node.int_or("block_size", 0) != 0;
        if scales < 2 || is_blocked {
            continue;
        }
        if contents.opset < FIRST && plain(&node.op) == node.op {
            ignored.push(node.name.as_str());
        } else if let Some(wrong) = mismatch(contents, node, scales) {
            impossible.push((node.name.as_str(), wrong));
        }
    }
    let mut found = Vec::new();
    if !ignored.is_empty() {
        found.push(Finding {
            level: Level::Error,
            rule: RULE.name.into(),
            evidence: format!(
                "opset {} has one scale per tensor, and {} have one per channel: {}",
                contents.opset,
                plural::of(ignored.len(), "node"),
                some_of(&ignored)
            ),
            places: places(&ignored),
            cost: "runtimes refuse the file, or take the first scale for all channels".into(),
            remedy: "export with opset 13 or newer".into(),
        });
    }
    if let Some((name, wrong)) = impossible.first() {
        let names: Vec<&str> = impossible.iter().map(|(name, _)| *name).collect();
        found.push(Finding {
            level: Level::Error,
            rule: RULE.name.into(),
            evidence: format!("{name}: {wrong}; {} like it", plural::of(impossible.len(), "node")),
            places: places(&names),
            cost: "OpenVINO refuses the file; ONNX Runtime 1.32 ignores an axis that does not exist where it fuses the pair, and runs the product in f32 where scales are missing".into(),
            remedy: "axis must be that of the channels, with a scale for each".into(),
        });
    }
    found.extend(along_inputs(contents));
    Ok(found)
}

/// What is wrong with the axis of a constant's scales.
fn mismatch(contents: &Contents, node: &StoredNode, scales: usize) -> Option<String> {
    let tensor = contents.constant(node, 0)?;
    let axis = node.int_or("axis", 1);
    let rank = tensor.dims.len() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    let extent = usize::try_from(at).ok().and_then(|at| tensor.dims.get(at));
    match extent {
        None => Some(format!("axis {axis} of a tensor of {rank} axes")),
        Some(&extent) if extent != scales => Some(format!(
            "{scales} scales for {extent} channels of axis {axis}"
        )),
        Some(_) => None,
    }
}

/// Weights whose scales go along the inputs: no product of integers can take them out of its sum.
fn along_inputs(contents: &Contents) -> Option<Finding> {
    let is_along = |node: &&StoredNode| {
        let Some(weights) = weights_of(contents, node) else {
            return false;
        };
        let rank = weights.tensor.dims.len();
        let axis = if weights.axis < 0 {
            weights.axis + rank as i64
        } else {
            weights.axis
        };
        let is_block = weights.grid.scale.len() > 1;
        is_block && axis != channel_axis(node, rank) as i64
    };
    let products = contents.nodes.iter().filter(|node| is_product(node));
    let nodes: Vec<&str> = products
        .filter(is_along)
        .map(|node| node.name.as_str())
        .collect();
    if nodes.is_empty() {
        return None;
    }
    Some(Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} with weights whose scales go along their inputs: {}",
            plural::of(nodes.len(), "product"),
            some_of(&nodes)
        ),
        places: places(&nodes),
        cost: "no sum of integers can be scaled like that: such products run in f32 or fail".into(),
        remedy: "scales along the output channels: axis 0 of Conv and of Gemm with transB, the last of MatMul".into(),
    })
}
