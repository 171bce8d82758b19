//! Which model to ship.

use crate::errors::Class;
use crate::settings::{self, Pairs};
use crate::threads::work;
use lowbit::Isa;
use lowbit_lab::experiments::inputs::float_model;
use lowbit_lab::experiments::preprocessing::{check_preprocessing, find_preprocessing};
use lowbit_lab::experiments::recommend::{
    HEADER, Recommendation, Request, Target, labelled_calibration, recommend as run,
};
use lowbit_lab::experiments::unseen::{Choice, Measured, Purpose, images_for};
use lowbit_lab::{LabError, Silent};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What one run says: its record as JSON, the names of the table's columns, its rows, and what labels said of the preprocessing
/// where nothing else did.
type Found = (String, Vec<&'static str>, Vec<Vec<String>>, Option<String>);

/// Tries candidates on the images that the settings name, and writes what `lowbit recommend` writes.
#[pyfunction]
#[pyo3(signature = (file, settings, max_drop, seconds, target, batch, all, split_seed, resume, train))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn recommend(
    py: Python<'_>,
    file: PathBuf,
    settings: Pairs,
    max_drop: f64,
    seconds: f64,
    target: &str,
    batch: Option<usize>,
    all: bool,
    split_seed: Option<u64>,
    resume: bool,
    train: Option<f64>,
) -> PyResult<Found> {
    let refuse = |line: String| Err(Class::Setting.error(line));
    let begun = Instant::now();
    if !(max_drop > 0.0 && max_drop <= 100.0) {
        return refuse(format!(
            "max_drop={max_drop}: must lie above 0 and up to 100 points"
        ));
    }
    if !(seconds > 0.0 && seconds <= 1e7) {
        return refuse(format!(
            "seconds={seconds}: must lie above 0 and up to 10000000"
        ));
    }
    if let Some(train) = train.filter(|&train| !(train > 0.0 && train <= 1e7)) {
        return refuse(format!(
            "train={train}: must lie above 0 and up to 10000000 seconds"
        ));
    }
    let (target, usual) = match target {
        "latency" => (Target::Latency, 1),
        "throughput" => (Target::Throughput, 64),
        "size" => (Target::Size, 1),
        other => return refuse(format!("target={other}: use latency, throughput or size")),
    };
    let batch = batch.unwrap_or(usual);
    if !(1..=4096).contains(&batch) {
        return refuse(format!("batch={batch}: use 1 to 4096 images"));
    }
    let mut config = settings::config(&settings)?;
    let choice = Choice { all, split_seed };
    let (found, preprocessing) = work(
        py,
        || -> Result<(Recommendation, Option<String>), LabError> {
            let isa = Isa::current()?;
            let mut model = float_model(&file, &config)?;
            let measured = Measured {
                file: &file,
                graph: &model.graph,
                record: model.record.as_ref(),
                foreign: model.foreign.as_ref(),
            };
            let chosen = images_for(
                &measured,
                match train {
                    None => Purpose::Calibrate,
                    Some(_) => Purpose::FineTune,
                },
                choice,
                &config,
                &lowbit_data::Silent,
            )?;
            let mut preprocessing = None;
            if let Some(foreign) = &model.foreign {
                if config.onnx.preprocess.is_empty() && !foreign.has_preprocessing {
                    let some = labelled_calibration(&chosen, &config);
                    let labelled = (&some, chosen.input.data.class_names.len());
                    let found = find_preprocessing(foreign, labelled, &config, isa)?;
                    preprocessing = Some(found.describe());
                    config.onnx.preprocess = found.name;
                    model = float_model(&file, &config)?;
                } else {
                    check_preprocessing(foreign, &chosen.input, &config, isa)?;
                }
            }
            let names = &chosen.input.data.class_names;
            model.graph = model.graph.with_class_names(names)?;
            let request = Request {
                file: &file,
                model: &model,
                choice,
                max_drop,
                begun,
                time: Duration::from_secs_f64(seconds),
                train: train.map(Duration::from_secs_f64),
                target,
                batch,
                resume,
            };
            let found = run(&config, &request, &chosen, isa, &Silent)?;
            Ok((found, preprocessing))
        },
    )?;
    let json = serde_json::to_string(&found).expect("plain data");
    Ok((json, HEADER.to_vec(), found.cells(), preprocessing))
}
