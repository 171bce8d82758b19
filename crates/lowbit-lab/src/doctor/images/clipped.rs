//! Activations that lie beyond their range: cut off at its ends.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use crate::LabError;
use lowbit::quantize::clipped;

pub(in super::super) const RULE: Rule = Rule {
    name: "clipped-activations",
    looks_at: LooksAt::QuantizedImages,
    finds: "activations of test images that lie beyond their range, and the share that is cut off",
    source: "calibration on images unlike those that come (mobile_app_open#865: random ones cost 17 points); Krishnamoorthi 2018",
    look,
};

/// Images that tell it.
pub(super) const IMAGES: usize = 64;

/// Shares of a value's numbers from which on it is worth a warning, and an error.
const MUCH: f64 = 0.01;
const FAR_TOO_MUCH: f64 = 0.25;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.with_ranges()) else {
        return Ok(vec![]);
    };
    let some = spread(&images.test, IMAGES);
    let shares = clipped(model, &some.images()?, patient.isa)?;
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
    // What learned ranges cut off below 8 bits is a choice of training.
    let is_learned = model.activation_bits.get() < 8;
    Ok(vec![Finding {
        level: match worst > FAR_TOO_MUCH && !is_learned {
            true => Level::Error,
            false => Level::Warning,
        },
        rule: RULE.name.into(),
        evidence: format!(
            "on {} test images {:.1} % of what {name} gives lies beyond its range; more than {:.0} % in {}",
            some.len(),
            100.0 * worst,
            100.0 * MUCH,
            some_of(&names)
        ),
        places: places(&names),
        cost: "what is cut off is lost to all layers behind".into(),
        remedy: "calibrate with images like those that it will see, and more of them; --observer minmax cuts nothing off".into(),
    }])
}
