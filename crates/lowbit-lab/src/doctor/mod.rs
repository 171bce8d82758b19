//! What is wrong with a model, or will be: each finding with its evidence, its cost and the remedy.
//!
//! A rule is a file with a function that looks at the [`Patient`]; [`RULES`] is the list of them. `onnx/` has those that look at
//! an ONNX file as it was written, `weights/` those of any quantized weights and files, `images/` those that run the model,
//! `training/` those about trainings and time.

mod finding;
mod images;
mod looks_at;
mod onnx;
mod patient;
mod products;
mod rule;
mod training;
mod weights;

pub use finding::{Finding, Level};
pub use images::permuted_labels::{Order, reordered};
pub use looks_at::LooksAt;
pub use onnx::{Placement, RustRuntime, float_in_openvino, placements};
pub use patient::{Images, Patient};
pub use rule::Rule;

use crate::LabError;
use serde::{Deserialize, Serialize};

/// All rules, in the order of what they cost.
pub const RULES: [Rule; 30] = [
    onnx::scales::RULE,
    onnx::channel_axis::RULE,
    onnx::bias::RULE,
    images::at_chance::RULE,
    images::permuted_labels::RULE,
    weights::per_tensor_depthwise::RULE,
    onnx::float_nodes::RULE,
    onnx::quantized_at_load::RULE,
    onnx::dynamic::RULE,
    images::clipped::RULE,
    images::unlike_test::RULE,
    images::one_class::RULE,
    images::growing_ranges::RULE,
    images::outliers::RULE,
    weights::unused_levels::RULE,
    weights::asymmetric_weights::RULE,
    onnx::relu::RULE,
    onnx::softmax::RULE,
    onnx::batch_norm::RULE,
    onnx::float_weights::RULE,
    training::no_gradient::RULE,
    training::frozen_steps::RULE,
    training::batch_norm_statistics::RULE,
    training::slower_layers::RULE,
    onnx::openvino::RULE,
    onnx::rust_runtimes::RULE,
    weights::size::RULE,
    images::silent_channels::RULE,
    weights::dead_channels::RULE,
    weights::saturating_sums::RULE,
];

/// A rule that could not look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotLooked {
    /// Its name.
    pub rule: String,
    /// What it lacks.
    pub why: String,
}

/// What `lowbit doctor` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Always `diagnosis`.
    pub experiment: String,
    /// The model's file.
    pub model: String,
    /// Names of the rules that looked.
    pub looked: Vec<String>,
    /// Rules about such models that could not look.
    pub not_looked: Vec<NotLooked>,
    /// Worst first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether there is a finding of level error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    /// The number of findings of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        let of_level = self
            .findings
            .iter()
            .filter(|finding| finding.level == level);
        of_level.count()
    }
}

/// Looks at a model by all rules.
///
/// # Errors
/// [`LabError`] where it cannot be run.
pub fn diagnose(patient: &Patient<'_>) -> Result<Diagnosis, LabError> {
    let (mut looked, mut not_looked, mut findings) = (vec![], vec![], vec![]);
    for rule in RULES {
        match patient.has(rule.looks_at) {
            None => {}
            Some(Err(why)) => not_looked.push(NotLooked {
                rule: rule.name.into(),
                why,
            }),
            Some(Ok(())) => {
                findings.extend((rule.look)(patient)?);
                looked.push(rule.name.to_owned());
            }
        }
    }
    // Stable: rules stand in the order of what they cost.
    findings.sort_by_key(|finding| finding.level);
    Ok(Diagnosis {
        experiment: "diagnosis".into(),
        model: patient.file.display().to_string(),
        looked,
        not_looked,
        findings,
    })
}
