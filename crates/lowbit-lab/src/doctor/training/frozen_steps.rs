//! Step sizes of quantizers that never learned.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::no_gradient::is_untouched;
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "frozen-steps",
    looks_at: LooksAt::Checkpoint,
    finds: "learned step sizes (LSQ) that no gradient has reached, while weights have moved",
    source: "Esser et al. 2020, section 2.1: the step's gradient; the optimizer's moments of such steps are 0",
    look,
};

/// Steps of weights and of activations in a checkpoint, and the setting that says whether they learn.
const STEPS: [(&str, &str); 2] = [
    (".weight_ln_scale", "quantizer"),
    (".activation_ln_scale", "act_quantizer"),
];

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(checkpoint) = &patient.checkpoint else {
        return Ok(vec![]);
    };
    // Quantizers that are not LSQ keep steps in the file that they do not learn.
    let learns = |setting: &str| {
        checkpoint
            .metadata
            .get(setting)
            .is_some_and(|it| it == "lsq")
    };
    let is_step = |name: &&str| {
        let mut kinds = STEPS.iter();
        kinds.any(|(suffix, setting)| name.ends_with(suffix) && learns(setting))
    };
    let names = checkpoint
        .optimizer
        .iter()
        .filter_map(|(name, _)| name.strip_suffix(".first"));
    let steps: Vec<&str> = names.filter(is_step).collect();
    let frozen: Vec<&str> = steps
        .iter()
        .copied()
        .filter(|name| is_untouched(checkpoint, name) == Some(true))
        .collect();
    if frozen.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "the optimizer's moments of {} of {} are 0: {}",
            frozen.len(),
            plural::of(steps.len(), "learned step"),
            some_of(&frozen)
        ),
        places: places(&frozen),
        cost: "these ranges are what they were at the start, whatever the weights did".into(),
        remedy: "train longer, or with --quantizer absmax, whose ranges follow the weights".into(),
    }])
}
