//! Ranges that a few numbers set: all others are left with a part of the levels.

use super::{Finding, Level, Patient, named};
use crate::LabError;
use lowbit::exec::FloatModel;
use lowbit::format::StoredModel;
use lowbit::quant::Observer;
use lowbit::quantize::calibrate;

/// Images that tell it.
const IMAGES: usize = 64;

/// A range that is so many times that of 99.99 % of the numbers loses two bits.
const TIMES: f32 = 4.0;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (StoredModel::Float { graph, weights }, Some(images)) =
        (patient.stored, patient.calibration)
    else {
        return Ok(vec![]);
    };
    let count = images.len().min(IMAGES);
    let images = &images.images()[..count * graph.input().len()];
    let most = Observer::Percentile(99.99);
    let model = FloatModel::compile(graph, weights, patient.isa)?;
    let seen = calibrate(&model, most, images);
    let steps = patient.steps()?;
    let mut found: Vec<(f32, &str)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let of = |observer| seen.params(index + 1, observer, u8::MAX);
        if let (Some(whole), Some(most)) = (of(Observer::MinMax), of(most)) {
            let times = whole.scale / most.scale;
            if times >= TIMES {
                found.push((times, &step.name));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let Some(&(times, name)) = found.first() else {
        return Ok(vec![]);
    };
    let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: "outliers".into(),
        evidence: format!(
            "on {count} images the range of {name} is {times:.1} times that of 99.99 % of its numbers; {TIMES} times or more in {}",
            named(&names)
        ),
        cost: "two bits or more of those activations with ranges that cover everything".into(),
        remedy: "quantize with --observer mse or percentile".into(),
    }])
}
