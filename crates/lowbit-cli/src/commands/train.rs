//! `lowbit train`: FP32 training alone.

use super::Context;
use crate::failure::Failure;
use lowbit::format;
use lowbit_lab::experiments::compare::{DataResults, data_results, graph_for};
use lowbit_lab::machine::Machine;
use lowbit_lab::training::{EpochRecord, Plan, train};
use lowbit_lab::{Config, LabError};
use serde::Serialize;

/// `training_results.json`.
#[derive(Serialize)]
struct Results {
    experiment: &'static str,
    model: String,
    parameters: usize,
    training_time_seconds: f64,
    final_test_accuracy: f64,
    epochs: Vec<EpochRecord>,
    data: DataResults,
    machine: Machine,
    config: Config,
}

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let data = context.load_data(None)?;
    let config = &context.config;
    let graph = graph_for(&config.network.model, &data)?;
    let folder = config.results.out.join("train");
    std::fs::create_dir_all(&folder).map_err(|source| LabError::Io {
        path: folder.clone(),
        source,
    })?;
    let checkpoint = folder.join("checkpoint.safetensors");
    let plan = Plan {
        checkpoint: Some(&checkpoint),
        resume: context.resume,
        ..Plan::default()
    };
    let trained = train(config, &plan, &graph, &data, context.isa, &context.progress)?;
    format::save_float(
        &folder.join("model_fp32.safetensors"),
        &graph,
        &trained.weights,
    )?;
    let results = Results {
        experiment: "train",
        model: graph.name().to_owned(),
        parameters: graph.parameter_count(),
        training_time_seconds: trained.train_seconds(),
        final_test_accuracy: trained.epochs.last().map_or(0.0, |last| last.test_accuracy),
        epochs: trained.epochs,
        data: data_results(&data),
        machine: Machine::here(context.isa),
        config: config.clone(),
    };
    let json = serde_json::to_string_pretty(&results).expect("results are plain data");
    format::write_atomically(&folder.join("training_results.json"), json.as_bytes())?;
    context.output.results(&results, || {
        format!(
            "{} on {}: {:.2} % test accuracy after {} epochs in {:.0} s",
            results.model,
            results.data.name,
            100.0 * results.final_test_accuracy,
            results.epochs.len(),
            results.training_time_seconds,
        )
    })?;
    context.output.written(&folder)
}
