//! Training in f32 alone: from fresh weights, or a model that somebody has trained before.

use super::artifacts::{CHECKPOINT, FP32, Held, TRAINING_RESULTS, say_if_new, write_json};
use super::compare::From;
use super::inputs::Input;
use super::learning::Outcome;
use super::results::DataResults;
use super::unseen::Evaluated;
use crate::evaluate::evaluate;
use crate::machine::Machine;
use crate::records::EpochRecord;
use crate::training::{self, Plan, StartWeights};
use crate::{Config, Events, LabError};
use lowbit::exec::FloatModel;
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
    /// Share of right predictions, 0–1.
    pub final_test_accuracy: f64,
    /// The epoch that was kept, from 1: the best on the validation images, or the last where there are none.
    pub chosen_epoch: usize,
    /// The model that training began with, and what it was worth then; none of fresh weights.
    pub from: Option<Begun>,
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

/// What training began with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Begun {
    /// The file.
    pub file: String,
    /// Its share of right predictions before training, 0–1.
    pub test_accuracy: f64,
    /// Which images it is measured on.
    pub evaluated: Evaluated,
}

/// Trains (the graph of `from`, and from its weights, where there is one), and writes `model_fp32.safetensors`, `training_results.json` and the checkpoint into the folder `train` of the
/// results.
///
/// # Errors
/// [`LabError`] saying what stopped it.
pub fn train(
    config: &Config,
    input: &Input,
    from: Option<From<'_>>,
    resume: bool,
    isa: Isa,
    events: &dyn Events,
) -> Result<TrainResults, LabError> {
    let graph = match from {
        Some(from) => from.model.graph.clone(),
        None => input.graph(&config.network.model)?,
    };
    let folder = Held::take(config.results.out.join(FOLDER))?;
    let checkpoint = folder.join(CHECKPOINT);
    say_if_new(resume, &checkpoint, events);
    let plan = Plan {
        start: match from {
            Some(from) => Some(StartWeights {
                weights: from.model.weights.clone(),
                record: from.model.record.clone(),
            }),
            None => training::start_weights(config, &graph)?,
        },
        checkpoint: Some(&checkpoint),
        resume,
        ..Plan::default()
    };
    let begun = from.map(|from| -> Result<Begun, LabError> {
        let model = FloatModel::compile(&graph, &from.model.weights, isa)?;
        Ok(Begun {
            file: from.file.display().to_string(),
            test_accuracy: evaluate(&model, &input.data.test)?.accuracy(),
            evaluated: from.evaluated.clone(),
        })
    });
    let begun = begun.transpose()?;
    let trained = training::train(config, &plan, &graph, input, isa, events)?;
    format::save_float(
        &folder.join(FP32),
        &graph,
        &trained.weights,
        trained.record.as_ref(),
    )?;
    let accuracy = trained.test_score().accuracy;
    let outcome = Outcome::of(
        accuracy,
        &input.data.test,
        graph.classes(),
        Some(trained.last().train_loss),
        &config.recipe,
    );
    let results = TrainResults {
        experiment: FOLDER,
        model: graph.name().to_owned(),
        parameters: graph.parameter_count(),
        training_time_seconds: trained.train_seconds(),
        final_test_accuracy: accuracy,
        chosen_epoch: trained.chosen_epoch,
        from: begun,
        no_verdict: outcome.no_verdict(config.training.lr),
        epochs: trained.epochs,
        data: DataResults::of(input),
        machine: Machine::here(isa),
        config: config.clone(),
    };
    write_json(&folder.join(TRAINING_RESULTS), &results)?;
    Ok(results)
}
