//! Ranges that a few numbers set: all others are left with a part of the levels.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use super::clipped::IMAGES;
use crate::LabError;
use lowbit::quant::Observer;
use lowbit::quantize::calibrate;

pub(in super::super) const RULE: Rule = Rule {
    name: "outliers",
    looks_at: LooksAt::FloatImages,
    finds: "activation ranges that few numbers set: 99.99 % of all lie within a fourth",
    source: "onnxruntime#9597, #11928 (why percentile and entropy calibration exist); Krishnamoorthi 2018, section 3.1",
    look,
};

/// A range so many times that of 99.99 % of the numbers loses two bits.
const TIMES: f32 = 4.0;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.float()?) else {
        return Ok(vec![]);
    };
    let some = spread(&images.calibration, IMAGES);
    let most = Observer::Percentile(99.99);
    let seen = calibrate(&model, most, &some.images()?)?;
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
        rule: RULE.name.into(),
        evidence: format!(
            "on {} images the range of {name} is {times:.1} times that of 99.99 % of its numbers; {TIMES} times or more in {}",
            some.len(),
            some_of(&names)
        ),
        places: places(&names),
        cost: "two bits or more of those activations, with ranges that cover everything".into(),
        remedy: "quantize with --observer mse or percentile".into(),
    }])
}
