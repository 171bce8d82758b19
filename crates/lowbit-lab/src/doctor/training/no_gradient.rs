//! Weights that no gradient reached: quantization-aware training without a straight-through estimator.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::{LabError, plural};
use lowbit::format::Checkpoint;

pub(in super::super) const RULE: Rule = Rule {
    name: "no-gradient",
    looks_at: LooksAt::Checkpoint,
    finds: "weights that no gradient has reached in training: rounding without a straight-through estimator",
    source: "rounding has the derivative 0 (Bengio et al. 2013); the optimizer's moments of such weights are 0",
    look,
};

/// The optimizer's memory of a parameter.
const MOMENTS: [&str; 2] = ["first", "second"];

/// Whether the optimizer has seen no gradient of a parameter but 0; nothing where the checkpoint does not say.
pub(super) fn is_untouched(checkpoint: &Checkpoint, parameter: &str) -> Option<bool> {
    let mut known = false;
    for moment in MOMENTS {
        let Some(tensor) = checkpoint.optimizer.get(&format!("{parameter}.{moment}")) else {
            continue;
        };
        known = true;
        if tensor.data().iter().any(|x| *x != 0.0) {
            return Some(false);
        }
    }
    known.then_some(true)
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(checkpoint) = &patient.checkpoint else {
        return Ok(vec![]);
    };
    let steps = checkpoint.graph.program()?;
    let (mut untouched, mut all) = (Vec::new(), 0);
    for step in steps.steps().iter().filter(|step| step.has_weights()) {
        let name = format!("{}.weight", step.name);
        if let Some(is_untouched) = is_untouched(checkpoint, &name) {
            all += 1;
            untouched.extend(is_untouched.then(|| step.name.clone()));
        }
    }
    if untouched.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Error,
        rule: RULE.name.into(),
        evidence: format!(
            "the optimizer's moments of {} of {} are 0: no gradient has reached {}",
            untouched.len(),
            plural::of(all, "weight tensor"),
            some_of(&untouched)
        ),
        places: places(&untouched),
        cost: "these weights are what they were at the start".into(),
        remedy:
            "train with the straight-through estimator (lowbit's default; --no-ste turns it off)"
                .into(),
    }])
}
