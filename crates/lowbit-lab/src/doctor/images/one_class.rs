//! Calibration images of one class.

use super::super::finding::{Finding, Level};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::LabError;

pub(in super::super) const RULE: Rule = Rule {
    name: "one-class-calibration",
    looks_at: LooksAt::FloatImages,
    finds: "calibration images of one class, or of few of the model's",
    source: "the first images of a sorted folder are of its first class: onnxruntime's examples read them in that order",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(images) = patient.seen() else {
        return Ok(vec![]);
    };
    let classes = images.class_names.len();
    let mut counts = vec![0usize; classes];
    for &label in images.calibration.labels() {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    let (all, largest) = (
        images.calibration.len(),
        counts.iter().max().copied().unwrap_or(0),
    );
    let there = counts.iter().filter(|count| **count > 0).count();
    let is_lopsided = 10 * largest >= 9 * all || (all >= 4 * classes && 2 * there <= classes);
    if classes < 2 || all == 0 || !is_lopsided {
        return Ok(vec![]);
    }
    let most = counts
        .iter()
        .position(|count| *count == largest)
        .unwrap_or(0);
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        places: vec![],
        evidence: format!(
            "of {all} calibration images {largest} are of the class {}; {there} of {classes} classes are there",
            images.class_names[most]
        ),
        cost: "activations of the other classes are cut off, or share the levels that these do not use".into(),
        remedy: "draw calibration images from all classes: --calibration-images, and data in which all are".into(),
    }])
}
