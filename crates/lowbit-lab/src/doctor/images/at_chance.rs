//! A model that knows no more of its classes than chance does: wrong preprocessing, wrong order of classes, or destroyed.

use super::super::finding::{Finding, Level};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use super::permuted_labels::reordered;
use crate::LabError;
use crate::evaluate::evaluate;
use crate::statistics::above_guessing;

pub(in super::super) const RULE: Rule = Rule {
    name: "at-chance",
    looks_at: LooksAt::TestImages(FEWEST),
    finds: "a model that has no more images right than guessing: wrong preprocessing, wrong classes, or a destroyed model",
    source: "onnxruntime-inference-examples#319 (70 % to 0.1 % by preprocessing), openvino_notebooks#837",
    look,
};

/// Images that tell it, and the fewest that do.
pub(super) const IMAGES: usize = 200;
const FEWEST: usize = 20;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.compiled()?) else {
        return Ok(vec![]);
    };
    let some = spread(&images.test, IMAGES);
    let found = evaluate(&*model, &some)?;
    let (classes, count) = (images.class_names.len(), some.len());
    let limit = above_guessing(classes, count);
    // Another rule says it where the classes stand in another order.
    if found.accuracy() > limit || reordered(&found.confusion).is_some() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Error,
        rule: RULE.name.into(),
        places: vec![],
        evidence: format!(
            "{:.1} % of {count} labelled images right; guessing among {classes} classes stays below {:.1} %{}",
            100.0 * found.accuracy(),
            100.0 * limit,
            match &images.preprocessing {
                Some(tried) => format!(" ({tried})"),
                None => String::new(),
            }
        ),
        cost: "every figure of its accuracy is noise".into(),
        remedy: "see how pixels become its input (--preprocess), which classes it has (--labels), and what the FP32 model says (lowbit eval)".into(),
    }])
}
