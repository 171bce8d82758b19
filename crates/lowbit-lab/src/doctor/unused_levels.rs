//! Integers that use fewer levels than their width has.

use super::{Finding, Level, Patient, named};
use crate::LabError;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let all = patient.layers()?;
    let (mut layers, mut filters, mut unused) = (Vec::new(), 0, 0);
    for (step, layer) in &all {
        // Widths with three levels have none to spare; 16 bits leave some so that sums fit.
        if !(3..16).contains(&layer.bits.get()) {
            continue;
        }
        let limit = layer.bits.magnitude_max();
        let taps = layer.weights.len() / layer.scale.len();
        let below_half = |filter: &&[i16]| {
            let largest = filter.iter().map(|q| q.unsigned_abs()).max().unwrap_or(0);
            largest > 0 && largest <= limit.unsigned_abs() / 2
        };
        let count = layer.weights.chunks(taps).filter(below_half).count();
        filters += layer.scale.len();
        if count > 0 {
            unused += count;
            layers.push(step.name.as_str());
        }
    }
    if 10 * unused < filters || unused == 0 {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: "unused-levels".into(),
        evidence: format!(
            "{unused} of {filters} filters use half of their levels or less: {}",
            named(&layers)
        ),
        cost: "a bit or more of precision at the same size".into(),
        remedy: "quantize again with a scale per channel, from the FP32 model".into(),
    }])
}
