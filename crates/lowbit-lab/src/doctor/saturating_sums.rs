//! Pairs of u8 × i8 products whose sum does not fit 16 bits: instructions of AVX2 without VNNI cut it off.

use super::{Finding, Level, Patient, named};
use crate::LabError;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let all = patient.layers()?;
    let mut layers = Vec::new();
    for (step, layer) in &all {
        if layer.bits.get() != 8 {
            continue;
        }
        let taps = layer.weights.len() / layer.scale.len();
        // Neighbors of one sign: 255·a + 255·b against 32,767.
        let saturates = |pair: &[i16]| 255 * i32::from(pair[0] + pair[1]).abs() > i32::from(i16::MAX);
        let mut pairs = layer.weights.chunks(taps).flat_map(|filter| filter.chunks_exact(2));
        if pairs.any(saturates) {
            layers.push(step.name.as_str());
        }
    }
    if layers.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Note,
        rule: "saturating-sums".into(),
        evidence: format!(
            "{} of {} layers have neighboring weights whose products with bright inputs add up beyond 16 bits: {}",
            layers.len(),
            all.len(),
            named(&layers)
        ),
        cost: "nothing here, where sums are exact on every instruction set; other runtimes give other results on AVX2 without VNNI".into(),
        remedy: "in another runtime there, reduce the range of weights to 7 bits for these layers".into(),
    }])
}
