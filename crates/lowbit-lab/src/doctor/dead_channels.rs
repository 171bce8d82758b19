//! Output channels that are the same whatever goes in.

use super::{Finding, Level, Patient, named};
use crate::LabError;
use lowbit::format::StoredModel;
use lowbit::graph::fold_batch_norm;

/// Weights below this share of the layer's largest do nothing.
const NOTHING: f32 = 1e-6;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let steps = patient.steps()?;
    let (mut layers, mut dead, mut all) = (Vec::new(), 0, 0);
    for (index, step) in steps.iter().enumerate() {
        let Some([channels, ..]) = step.weight_extents() else {
            continue;
        };
        let kernel = match patient.stored {
            StoredModel::Float { weights, .. } => fold_batch_norm(step, weights).0,
            StoredModel::Quantized(model) => match &model.layers[index] {
                Some(layer) => layer.dequantized(),
                None => continue,
            },
        };
        let largest = |weights: &[f32]| weights.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let limit = NOTHING * largest(&kernel);
        let filters = kernel.chunks(kernel.len() / channels);
        let count = filters.filter(|filter| largest(filter) <= limit).count();
        all += channels;
        if count > 0 {
            dead += count;
            layers.push(step.name.as_str());
        }
    }
    if dead == 0 {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Note,
        rule: "dead-channels".into(),
        evidence: format!("{dead} of {all} output channels have no weight that does anything: {}", named(&layers)),
        cost: "their bytes and their products; integer runtimes with i32 biases overflow by such channels, this one does not".into(),
        remedy: "prune them before export, where size counts".into(),
    }])
}
