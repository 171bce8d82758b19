//! Weights to begin with, and a network to learn from: both of model files.

use super::StartWeights;
use crate::config::areas::Recipe;
use crate::models::is_onnx;
use crate::{Config, LabError};
use lowbit::exec::{FloatModel, Model};
use lowbit::format::{StoredModel, TrainingRecord, load_with_record};
use lowbit::train::Teacher as Lesson;
use lowbit::{Graph, Weights};
use lowbit_kernels::Isa;
use std::path::Path;

/// A network whose answers are learned as well.
pub(super) struct Teacher {
    model: FloatModel,
    classes: usize,
    temperature: f32,
    weight: f32,
    logits: Vec<f32>,
}

impl Teacher {
    /// The teacher that the settings name; none if they name none.
    pub(super) fn of(config: &Config, graph: &Graph, isa: Isa) -> Result<Option<Self>, LabError> {
        let Recipe {
            teacher,
            teacher_weight,
            temperature,
            ..
        } = &config.recipe;
        if teacher.as_os_str().is_empty() {
            return Ok(None);
        }
        if config.recipe.own_teacher() {
            return Err(LabError::Mismatch(
                "teacher fp32: nothing was trained before that could teach; name a model file"
                    .into(),
            ));
        }
        let (theirs, weights, _) = float("teacher", teacher)?;
        let differs = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
            Err(LabError::Mismatch(format!(
                "teacher {}: {what} {a}, and not {b}",
                teacher.display()
            )))
        };
        if theirs.input() != graph.input() {
            return differs("takes images of", &theirs.input(), &graph.input());
        }
        if theirs.class_names() != graph.class_names() {
            let names = |graph: &Graph| graph.class_names().join(", ");
            return differs("knows the classes", &names(&theirs), &names(graph));
        }
        Ok(Some(Self {
            classes: theirs.classes(),
            model: FloatModel::compile(&theirs, &weights, isa)?,
            temperature: *temperature,
            weight: *teacher_weight,
            logits: Vec::new(),
        }))
    }

    /// Says what a batch is.
    pub(super) fn lesson(&mut self, images: &[u8], count: usize) -> Result<Lesson<'_>, LabError> {
        self.logits.resize(count * self.classes, 0.0);
        self.model.run(images, &mut self.logits)?;
        Ok(Lesson {
            logits: &self.logits,
            temperature: self.temperature,
            weight: self.weight,
        })
    }
}

/// The weights that the settings name to begin with; none if they name none.
///
/// # Errors
/// [`LabError`] if the file has none for `graph`.
pub fn start_weights(config: &Config, graph: &Graph) -> Result<Option<StartWeights>, LabError> {
    let file = &config.recipe.start_from;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let (theirs, weights, record) = float("start-from", file)?;
    if theirs.name() != graph.name() || theirs.class_names() != graph.class_names() {
        return Err(LabError::Mismatch(format!(
            "start-from {}: holds a {} of {} classes ({}), and not a {} of {} ({})",
            file.display(),
            theirs.name(),
            theirs.classes(),
            theirs.class_names().join(", "),
            graph.name(),
            graph.classes(),
            graph.class_names().join(", "),
        )));
    }
    weights
        .check(graph)
        .map_err(|error| LabError::Mismatch(format!("start-from {}: {error}", file.display())))?;
    Ok(Some(StartWeights { weights, record }))
}

fn float(setting: &str, file: &Path) -> Result<(Graph, Weights, Option<TrainingRecord>), LabError> {
    let refused = |why: &str| {
        Err(LabError::Mismatch(format!(
            "{setting} {}: {why}; take a model_fp32.safetensors that lowbit wrote",
            file.display()
        )))
    };
    if is_onnx(file) {
        return refused("is an ONNX file");
    }
    match load_with_record(file)? {
        (StoredModel::Float { graph, weights }, record) => Ok((graph, weights, record)),
        _ => refused("holds quantized weights"),
    }
}
