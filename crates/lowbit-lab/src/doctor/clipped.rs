//! Activations that lie beyond their range: cut off at its ends.

use super::{Finding, Level, Patient, named};
use crate::LabError;
use lowbit::quantize::clipped;

/// Images that tell it.
const IMAGES: usize = 64;

/// Shares of a value's numbers from which on it is worth a warning, and an error.
const MUCH: f64 = 0.01;
const FAR_TOO_MUCH: f64 = 0.2;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(model), Some(images)) = (patient.quantized(), patient.test.or(patient.calibration))
    else {
        return Ok(vec![]);
    };
    let count = images.len().min(IMAGES);
    let images = &images.images()[..count * model.graph.input().len()];
    let shares = clipped(model, images, patient.isa)?;
    let steps = patient.steps()?;
    let mut found: Vec<(f64, &str)> = shares
        .iter()
        .enumerate()
        .filter_map(|(value, share)| Some(((*share)?, steps[value.checked_sub(1)?].name.as_str())))
        .filter(|(share, _)| *share > MUCH)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let Some(&(worst, name)) = found.first() else {
        return Ok(vec![]);
    };
    let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: match worst > FAR_TOO_MUCH {
            true => Level::Error,
            false => Level::Warning,
        },
        rule: "clipped-activations".into(),
        evidence: format!(
            "on {count} images {:.1} % of what {name} gives lies beyond its range; more than {:.0} % in {}",
            100.0 * worst,
            100.0 * MUCH,
            named(&names)
        ),
        cost: "what is cut off is lost to all layers behind".into(),
        remedy: "calibrate with images like those that it will see, and more of them; --observer minmax cuts nothing off".into(),
    }])
}
