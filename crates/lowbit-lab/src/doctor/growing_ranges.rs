//! Calibration with too few images: ranges that still grow with each further one.

use super::{Finding, Level, Patient, named};
use crate::LabError;
use lowbit::exec::FloatModel;
use lowbit::format::StoredModel;
use lowbit::quant::Observer;
use lowbit::quantize::calibrate;

/// Images that are looked at, at most.
const IMAGES: usize = 512;

/// Growth of a range by the second half of the images.
const GREW: f32 = 0.1;

/// Share of the values whose range may grow.
const SOME: f64 = 0.25;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (StoredModel::Float { graph, weights }, Some(images)) =
        (patient.stored, patient.calibration)
    else {
        return Ok(vec![]);
    };
    let count = images.len().min(IMAGES);
    if count < 2 {
        return Ok(vec![]);
    }
    let image_len = graph.input().len();
    let model = FloatModel::compile(graph, weights, patient.isa)?;
    let ranges = |images: usize| {
        let seen = calibrate(&model, Observer::MinMax, &images_of(patient, images, image_len));
        move |value: usize| seen.extremes(value).map(|(low, high)| high - low)
    };
    let (half, whole) = (ranges(count / 2), ranges(count));
    let steps = patient.steps()?;
    let grew = |index: &usize| match (half(index + 1), whole(index + 1)) {
        (Some(half), Some(whole)) => whole > half * (1.0 + GREW),
        _ => false,
    };
    let found: Vec<usize> = (0..steps.len()).filter(grew).collect();
    if (found.len() as f64) < SOME * steps.len() as f64 {
        return Ok(vec![]);
    }
    let names: Vec<&str> = found.iter().map(|&index| steps[index].name.as_str()).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: "growing-ranges".into(),
        evidence: format!(
            "from {} to {count} images the ranges of {} of {} values grew by more than {:.0} %: {}",
            count / 2,
            found.len(),
            steps.len(),
            100.0 * GREW,
            named(&names)
        ),
        cost: "other images than these will be cut off".into(),
        remedy: "calibrate with more images: --calibration-images".into(),
    }])
}

fn images_of(patient: &Patient<'_>, images: usize, image_len: usize) -> Vec<u8> {
    let split = patient.calibration.expect("looked at before");
    split.images()[..images * image_len].to_vec()
}
