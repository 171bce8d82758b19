//! Nodes of a quantized model that ONNX Runtime runs in f32.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::onnx_runtime::placements;
use super::products::{is_product, weights_of};
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};
use std::collections::BTreeMap;

pub(in super::super) const RULE: Rule = Rule {
    name: "float-nodes",
    looks_at: LooksAt::OnnxFile,
    finds: "nodes of a quantized model that run in f32 in ONNX Runtime, each with the reason",
    source: "ONNX Runtime 1.32, `qdq_selectors.cc`, `qdq_propagation.cc`, `qdq_s8_to_u8.cc`; checked against its own optimized graphs (`bench/onnx/fusion.py`)",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let placed = placements(contents);
    let (mut reasons, mut narrow) = (BTreeMap::<&str, Vec<&str>>::new(), Vec::new());
    let (mut products, mut in_float, mut weights, mut float_weights) = (0, 0, 0, 0);
    for placement in &placed {
        let counted = is_product(placement.node);
        let held = weights_in(contents, placement.node);
        products += usize::from(counted);
        weights += held;
        let Some(why) = &placement.float else {
            continue;
        };
        // Weights of fewer or more than 8 bits are there for size or accuracy: nobody expects integers of them.
        if counted && bits_of(contents, placement.node).is_some_and(|bits| bits != 8) {
            narrow.push(placement.node.name.as_str());
            continue;
        }
        reasons.entry(why).or_default().push(&placement.node.name);
        in_float += usize::from(counted);
        float_weights += if counted { held } else { 0 };
    }
    let mut found = Vec::new();
    if !reasons.is_empty() {
        let mut by_number: Vec<(&str, Vec<&str>)> = reasons.into_iter().collect();
        by_number.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
        let list: Vec<String> = by_number
            .iter()
            .map(|(why, nodes)| format!("{}: {why}", some_of(nodes)))
            .collect();
        let nodes: Vec<&str> = by_number.into_iter().flat_map(|(_, nodes)| nodes).collect();
        let share = 100.0 * float_weights as f64 / (weights as f64).max(1.0);
        found.push(Finding {
            level: match 2 * float_weights > weights {
                true => Level::Error,
                false => Level::Warning,
            },
            rule: RULE.name.into(),
            evidence: format!(
                "{} of {} that compute run in f32, with {in_float} of {} and {share:.0} % of their weights: {}",
                nodes.len(),
                plural::of(placed.len(), "node"),
                plural::of(products, "product"),
                list.join("; ")
            ),
            places: places(&nodes),
            cost: "these nodes take f32's time, and a conversion before and behind each".into(),
            remedy: "give each node named here its pair, or the type it lacks, and quantize again; or export by lowbit: lowbit quantize MODEL, lowbit export".into(),
        });
    }
    if !narrow.is_empty() {
        found.push(Finding {
            level: Level::Note,
            rule: RULE.name.into(),
            evidence: format!(
                "{} of {} have weights of other than 8 bits and run in f32: {}",
                narrow.len(),
                plural::of(products, "product"),
                some_of(&narrow)
            ),
            places: places(&narrow),
            cost: "the file is smaller, and not faster, in ONNX Runtime".into(),
            remedy: "8-bit weights where time counts; lowbit runs the narrow ones in integers"
                .into(),
        });
    }
    Ok(found)
}

fn bits_of(contents: &Contents, node: &StoredNode) -> Option<u8> {
    weights_of(contents, node)?.grid.element.bits()
}

/// The number of weights that a product holds.
fn weights_in(contents: &Contents, node: &StoredNode) -> usize {
    if !is_product(node) {
        return 0;
    }
    match weights_of(contents, node) {
        Some(weights) => weights.tensor.elements(),
        None => contents
            .constant(node, 1)
            .map_or(0, |tensor| tensor.elements()),
    }
}
