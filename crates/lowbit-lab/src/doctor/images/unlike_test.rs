//! Calibration images that are unlike the test images.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use super::clipped::IMAGES;
use crate::{LabError, plural};
use lowbit::quant::Observer;
use lowbit::quantize::calibrate;

pub(in super::super) const RULE: Rule = Rule {
    name: "unlike-test",
    looks_at: LooksAt::FloatImages,
    finds: "calibration images whose activation ranges are not those of the test images, from as many of each",
    source: "mobile_app_open#865 (random images: 63.96 % for 81.14 %), onnxruntime-inference-examples#319",
    look,
};

/// How many times one range may be the other.
const TIMES: f32 = 1.5;

/// Share of the values whose ranges may differ so.
const SOME: f64 = 0.25;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.float()?) else {
        return Ok(vec![]);
    };
    let count = images
        .calibration
        .len()
        .min(images.test.len())
        .min(4 * IMAGES);
    if count < IMAGES / 4 {
        return Ok(vec![]);
    }
    // Extremes hang on single numbers: nearly all of them are compared.
    let nearly_all = Observer::Percentile(99.9);
    let of = |split| -> Result<_, LabError> {
        Ok(calibrate(
            &model,
            nearly_all,
            &spread(split, count).images()?,
        )?)
    };
    let (calibration, test) = (of(&images.calibration)?, of(&images.test)?);
    let steps = patient.steps()?;
    let mut found: Vec<(f32, &str)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let scale = |seen: &lowbit::quantize::Calibration| {
            Some(seen.params(index + 1, nearly_all, u8::MAX)?.scale)
        };
        if let (Some(calibration), Some(test)) = (scale(&calibration), scale(&test)) {
            let times = test / calibration;
            if !(1.0 / TIMES..=TIMES).contains(&times) {
                found.push((times, &step.name));
            }
        }
    }
    if found.is_empty() || (found.len() as f64) < SOME * steps.len() as f64 {
        return Ok(vec![]);
    }
    let farness = |times: f32| times.max(1.0 / times);
    found.sort_by(|a, b| farness(b.0).total_cmp(&farness(a.0)));
    let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "on {count} images of each, test ranges are {:.2} times those of calibration in {}, and beyond {TIMES} times either way in {} of {}: {}",
            found[0].0,
            found[0].1,
            names.len(),
            plural::of(steps.len(), "value"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "wider test images are cut off, narrower ones get a part of the levels".into(),
        remedy: "calibrate with images like those that the model will see".into(),
    }])
}
