//! What is wrong with a model, or will be: each finding with its evidence, its cost and the remedy.
//!
//! A rule is a file with a function that looks at the [`Patient`]; [`RULES`] is the list of them.

mod at_chance;
mod clipped;
mod dead_channels;
mod growing_ranges;
mod outliers;
mod per_tensor_depthwise;
mod saturating_sums;
mod size;
mod slower_layers;
#[cfg(test)]
mod tests;
mod unused_levels;

use crate::LabError;
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::StoredModel;
use lowbit::graph::{Graph, Step};
use lowbit::quant::{QuantizedLayer, QuantizedModel};
use lowbit_data::Split;
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Do not ship it.
    Error,
    /// It costs something.
    Warning,
    /// Good to know.
    Note,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The rule's name.
    pub rule: String,
    /// What was seen, with numbers.
    pub evidence: String,
    /// What it costs.
    pub cost: String,
    /// What to do.
    pub remedy: String,
}

/// A model, and images that it may be looked at with.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// Its file.
    pub file: &'a Path,
    /// The file's bytes.
    pub bytes: u64,
    /// What the file holds.
    pub stored: &'a StoredModel,
    /// Images that set ranges, if there are any.
    pub calibration: Option<&'a Split>,
    /// Labelled images that it has not seen, if there are any.
    pub test: Option<&'a Split>,
    /// The instruction set.
    pub isa: Isa,
}

/// What a rule finds in a patient.
type Rule = fn(&Patient<'_>) -> Result<Vec<Finding>, LabError>;

/// All rules, by name.
pub const RULES: [(&str, Rule); 10] = [
    ("at-chance", at_chance::look),
    ("per-tensor-depthwise", per_tensor_depthwise::look),
    ("clipped-activations", clipped::look),
    ("outliers", outliers::look),
    ("growing-ranges", growing_ranges::look),
    ("dead-channels", dead_channels::look),
    ("unused-levels", unused_levels::look),
    ("size", size::look),
    ("slower-layers", slower_layers::look),
    ("saturating-sums", saturating_sums::look),
];

/// What `lowbit doctor` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The model's file.
    pub model: String,
    /// Names of the rules that looked.
    pub rules: Vec<String>,
    /// Worst first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether there is a finding of level error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Error)
    }
}

/// Looks at a model by all rules.
///
/// # Errors
/// [`LabError`] where it cannot be run.
pub fn diagnose(patient: &Patient<'_>) -> Result<Diagnosis, LabError> {
    let mut findings = Vec::new();
    for (_, look) in RULES {
        findings.extend(look(patient)?);
    }
    // Stable: rules stand in the order of what they cost.
    findings.sort_by_key(|finding| finding.level);
    Ok(Diagnosis {
        model: patient.file.display().to_string(),
        rules: RULES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        findings,
    })
}

impl Patient<'_> {
    fn graph(&self) -> &Graph {
        match self.stored {
            StoredModel::Float { graph, .. } => graph,
            StoredModel::Quantized(model) => &model.graph,
        }
    }

    fn quantized(&self) -> Option<&QuantizedModel> {
        match self.stored {
            StoredModel::Float { .. } => None,
            StoredModel::Quantized(model) => Some(model),
        }
    }

    fn steps(&self) -> Result<Vec<Step>, LabError> {
        Ok(self.graph().program()?.steps().to_vec())
    }

    /// The layers that have integers, with their steps.
    fn layers(&self) -> Result<Vec<(Step, &QuantizedLayer)>, LabError> {
        let Some(model) = self.quantized() else {
            return Ok(Vec::new());
        };
        let pairs = self.steps()?.into_iter().zip(&model.layers);
        Ok(pairs.filter_map(|(step, layer)| Some((step, layer.as_ref()?))).collect())
    }

    /// The model, ready to run.
    fn compiled(&self) -> Result<Box<dyn Model>, LabError> {
        Ok(match self.stored {
            StoredModel::Float { graph, weights } => {
                Box::new(FloatModel::compile(graph, weights, self.isa)?)
            }
            StoredModel::Quantized(model) => Box::new(IntegerModel::compile(model, self.isa)?),
        })
    }
}

/// Names, the first few of them.
fn named(names: &[&str]) -> String {
    const FEW: usize = 4;
    let mut text = names[..names.len().min(FEW)].join(", ");
    if names.len() > FEW {
        text += &format!(" and {} more", names.len() - FEW);
    }
    text
}
