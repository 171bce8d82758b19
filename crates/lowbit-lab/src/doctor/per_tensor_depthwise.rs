//! One scale for all filters of a depthwise layer, whose ranges differ: most of them are left with a few levels.

use super::{Finding, Level, Patient, named};
use crate::LabError;
use lowbit::graph::Op;

/// A filter whose largest integer is at most this much of the highest has lost three bits.
const LOST: f64 = 1.0 / 8.0;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (mut layers, mut filters, mut coarse) = (Vec::new(), 0usize, 0usize);
    let all = patient.layers()?;
    for (step, layer) in &all {
        let Op::Conv(conv) = step.op else { continue };
        let is_depthwise = conv.groups > 1 && conv.groups == step.in_shapes[0].c();
        let one_scale = layer.scale.iter().all(|scale| *scale == layer.scale[0]);
        if !is_depthwise || !one_scale || layer.bits.get() == 1 {
            continue;
        }
        let taps = layer.weights.len() / layer.scale.len();
        let highest = f64::from(layer.bits.magnitude_max());
        let largest = |filter: &[i16]| filter.iter().map(|q| q.unsigned_abs()).max();
        let lost = layer.weights.chunks(taps).filter(|filter| {
            largest(filter).is_some_and(|q| q > 0 && f64::from(q) <= LOST * highest)
        });
        let lost = lost.count();
        if lost > 0 {
            layers.push(step.name.as_str());
            filters += layer.scale.len();
            coarse += lost;
        }
    }
    if layers.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: match 4 * coarse >= filters {
            true => Level::Error,
            false => Level::Warning,
        },
        rule: "per-tensor-depthwise".into(),
        evidence: format!(
            "{} have one scale for all filters; {coarse} of {filters} filters use an eighth of the levels or less",
            named(&layers)
        ),
        cost: "three bits of those filters; MobileNets fall to chance by it".into(),
        remedy: "quantize with a scale per channel: lowbit quantize does".into(),
    }])
}
