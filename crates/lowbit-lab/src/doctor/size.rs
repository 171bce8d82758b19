//! What the file holds against what its bits should take.

use super::{Finding, Level, Patient};
use crate::LabError;
use lowbit::format::StoredModel;

/// What names, shapes and the graph may take besides: a fifth, and this many bytes.
const BESIDES: u64 = 64 << 10;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (expected, what) = match patient.stored {
        StoredModel::Float { graph, .. } => {
            (4 * graph.parameter_count() as u64, "parameters of 32 bits")
        }
        StoredModel::Quantized(_) => {
            let layers = patient.layers()?;
            let bytes = layers.iter().map(|(_, layer)| {
                let bits = layer.weights.len() as u64 * u64::from(layer.bits.get());
                // A scale and a bias for each channel.
                bits.div_ceil(8) + 8 * layer.scale.len() as u64
            });
            (bytes.sum(), "packed weights, scales and biases")
        }
    };
    if patient.bytes <= expected + expected / 5 + BESIDES {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: "size".into(),
        evidence: format!("{} bytes on disk, its {what} take {expected}", patient.bytes),
        cost: format!("{} bytes", patient.bytes - expected),
        remedy: "look for tensors that are stored twice, in more bits than they need, or not used; a file that lowbit writes has none".into(),
    }])
}
