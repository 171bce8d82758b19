//! Calibration with too few images: ranges that still grow with each further one.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::{LabError, plural};
use lowbit::quant::Observer;
use lowbit::quantize::calibrate;

pub(in super::super) const RULE: Rule = Rule {
    name: "growing-ranges",
    looks_at: LooksAt::FloatImages,
    finds: "calibration images that are too few: the second half of them still widens the ranges",
    source: "ranges of a sample's extremes grow with the sample; NNCF takes 300 images by default, 256 sufficed in docs/quantization.md",
    look,
};

/// Growth of a range by the second half of the images.
const GREW: f32 = 0.1;

/// Share of the values whose range may grow.
const SOME: f64 = 0.25;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.float()?) else {
        return Ok(vec![]);
    };
    let all = &images.calibration;
    let half: Vec<usize> = (0..all.len() / 2).collect();
    if half.is_empty() {
        return Ok(vec![]);
    }
    let whole = calibrate(&model, Observer::MinMax, &all.images()?)?;
    let first = calibrate(&model, Observer::MinMax, &all.take(&half).images()?)?;
    let width = |(low, high): (f32, f32)| high.max(0.0) - low.min(0.0);
    let steps = patient.steps()?;
    let mut found: Vec<(f32, &str)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if let (Some(first), Some(whole)) = (first.extremes(index + 1), whole.extremes(index + 1)) {
            let times = width(whole) / width(first).max(f32::MIN_POSITIVE);
            if times > 1.0 + GREW {
                found.push((times, &step.name));
            }
        }
    }
    if found.is_empty() || (found.len() as f64) < SOME * steps.len() as f64 {
        return Ok(vec![]);
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "from {} to {} the ranges of {} of {} grew by more than {:.0} %, that of {} by {:.0} %: {}",
            half.len(),
            plural::of(all.len(), "image"),
            names.len(),
            plural::of(steps.len(), "value"),
            100.0 * GREW,
            found[0].1,
            100.0 * (found[0].0 - 1.0),
            some_of(&names)
        ),
        places: places(&names),
        cost: "what other images hold beyond these ranges will be cut off".into(),
        remedy: "calibrate with more images: --calibration-images; or --observer mse, which does not hang on the largest number".into(),
    }])
}
