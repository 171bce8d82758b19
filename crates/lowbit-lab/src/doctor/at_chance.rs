//! A model that knows no more of its classes than chance does: wrong preprocessing, wrong order of classes, or destroyed.

use super::{Finding, Level, Patient};
use crate::LabError;
use crate::evaluate::evaluate;

/// Images that tell it.
const IMAGES: usize = 200;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(test) = patient.test.filter(|test| test.len() >= 20) else {
        return Ok(vec![]);
    };
    let count = test.len().min(IMAGES);
    let spread: Vec<usize> = (0..count).map(|i| i * test.len() / count).collect();
    let found = evaluate(&*patient.compiled()?, &test.take(&spread)).accuracy();
    let classes = patient.graph().classes();
    let chance = 1.0 / classes as f64;
    let limit = chance + 3.0 * (chance * (1.0 - chance) / count as f64).sqrt();
    if found > limit {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Error,
        rule: "at-chance".into(),
        evidence: format!(
            "{:.1} % of {count} labelled images right; guessing among {classes} classes stays below {:.1} %",
            100.0 * found,
            100.0 * limit
        ),
        cost: "every number about its accuracy is noise".into(),
        remedy: "check how pixels become its input (--preprocess), the order of its classes (--labels), and the file that it was made of".into(),
    }])
}
