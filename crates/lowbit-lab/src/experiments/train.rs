//! Training in f32 alone.

use super::artifacts::{CHECKPOINT, FP32, Held, TRAINING_RESULTS, write_json};
use super::inputs::Input;
use super::learning::Outcome;
use super::results::DataResults;
use crate::machine::Machine;
use crate::records::EpochRecord;
use crate::training::{self, Plan};
use crate::{Config, Events, LabError};
use lowbit::format;
use lowbit_kernels::Isa;
use serde::Serialize;

/// Where things are written.
pub const FOLDER: &str = "train";

/// `training_results.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainResults {
    /// Always `train`.
    pub experiment: &'static str,
    /// Name of the model.
    pub model: String,
    /// Trained numbers.
    pub parameters: usize,
    /// Seconds of training, evaluation not counted.
    pub training_time_seconds: f64,
    /// Share of right predictions after the last epoch, 0–1.
    pub final_test_accuracy: f64,
    /// Why the model says nothing about quantization, and what to try; none if it learned.
    pub no_verdict: Option<String>,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
    /// What was classified.
    pub data: DataResults,
    /// What it was trained on.
    pub machine: Machine,
    /// All settings.
    pub config: Config,
}

/// Trains, and writes `model_fp32.safetensors`, `training_results.json` and the checkpoint into the folder `train` of the
/// results.
///
/// # Errors
/// [`LabError`] saying what stopped it.
pub fn train(
    config: &Config,
    input: &Input,
    resume: bool,
    isa: Isa,
    events: &dyn Events,
) -> Result<TrainResults, LabError> {
    let graph = input.graph(&config.network.model)?;
    let folder = Held::take(config.results.out.join(FOLDER))?;
    let checkpoint = folder.join(CHECKPOINT);
    let plan = Plan {
        start: training::start_weights(config, &graph)?,
        checkpoint: Some(&checkpoint),
        resume,
        ..Plan::default()
    };
    let trained = training::train(config, &plan, &graph, input, isa, events)?;
    format::save_float(
        &folder.join(FP32),
        &graph,
        &trained.weights,
        trained.record.as_ref(),
    )?;
    let last = trained.last();
    let outcome = Outcome::of(
        last.test_accuracy,
        &input.data.test,
        graph.classes(),
        Some(last.train_loss),
        &config.recipe,
    );
    let results = TrainResults {
        experiment: FOLDER,
        model: graph.name().to_owned(),
        parameters: graph.parameter_count(),
        training_time_seconds: trained.train_seconds(),
        final_test_accuracy: last.test_accuracy,
        no_verdict: outcome.no_verdict(config.training.lr),
        epochs: trained.epochs,
        data: DataResults::of(input),
        machine: Machine::here(isa),
        config: config.clone(),
    };
    write_json(&folder.join(TRAINING_RESULTS), &results)?;
    Ok(results)
}
