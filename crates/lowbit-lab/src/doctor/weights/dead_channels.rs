//! Output channels that are the same whatever goes in.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::{LabError, plural};
use lowbit::format::StoredModel;
use lowbit::graph::fold_batch_norm;

pub(in super::super) const RULE: Rule = Rule {
    name: "dead-channels",
    looks_at: LooksAt::File,
    finds: "output channels without a weight that does anything",
    source: "onnxruntime#21000 and PR#22020 (int32 biases overflow by them); 59 of 8,960 depthwise channels of EfficientNet-Lite0's ImageNet weights",
    look,
};

/// Weights below this share of the layer's largest do nothing.
const NOTHING: f32 = 1e-6;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    // The dead channels and all channels of each layer.
    let mut layers: Vec<(String, usize, usize)> = Vec::new();
    for product in &patient.products {
        let each = product.each_filter().enumerate();
        let dead = each.filter(|(filter, codes)| product.largest(*filter, codes) == 0);
        layers.push((product.name.clone(), dead.count(), product.filters));
    }
    if let Ok(StoredModel::Float { weights, .. }) = &patient.model
        && patient.products.is_empty()
    {
        for step in patient.steps()? {
            let Some([channels, ..]) = step.weight_extents() else {
                continue;
            };
            let (kernel, _) = fold_batch_norm(&step, weights);
            let largest = |weights: &[f32]| weights.iter().fold(0.0f32, |max, w| max.max(w.abs()));
            let limit = NOTHING * largest(&kernel);
            let filters = kernel.chunks_exact((kernel.len() / channels.max(1)).max(1));
            let dead = filters.filter(|filter| largest(filter) <= limit).count();
            layers.push((step.name, dead, channels));
        }
    }
    let all: usize = layers.iter().map(|(_, _, all)| all).sum();
    layers.retain(|(_, dead, _)| *dead > 0);
    layers.sort_by_key(|(_, dead, _)| std::cmp::Reverse(*dead));
    let dead: usize = layers.iter().map(|(_, dead, _)| dead).sum();
    if dead == 0 {
        return Ok(vec![]);
    }
    let names: Vec<&str> = layers.iter().map(|(name, ..)| name.as_str()).collect();
    Ok(vec![Finding {
        level: Level::Note,
        rule: RULE.name.into(),
        evidence: format!(
            "{dead} of {} have no weight that does anything: {}",
            plural::of(all, "output channel"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "their bytes and their products; quantizers that take a channel's own range for its scale overflow int32 biases by them".into(),
        remedy: "prune them before export, where size counts".into(),
    }])
}
