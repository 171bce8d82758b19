//! What is wrong with a model file: what [`crate::doctor`] says about it, read and given images here.

use super::inputs::Input;
use super::preprocessing::find_preprocessing;
use super::unseen::{Choice, Chosen, Measured, Purpose, images_for};
use crate::doctor::{Diagnosis, Images, Patient, diagnose, reordered};
use crate::evaluate::evaluate;
use crate::models::{self, Foreign, ModelFile, PREPROCESSINGS, is_onnx, open_onnx};
use crate::{Config, Events, LabError};
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::{StoredModel, load_checkpoint};
use lowbit_data::{Progress, Split};
use lowbit_kernels::Isa;
use lowbit_onnx::Contents;
use std::path::Path;

/// Test images that are looked at, at most.
const MOST: usize = 1000;
/// Images that tell one preprocessing from another.
const TRIED: usize = 200;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The model's file: ONNX, one of lowbit's, or a checkpoint of a training.
    pub file: &'a Path,
    /// Whether images are given: those of the settings.
    pub with_images: bool,
    /// Which of them were asked for by hand.
    pub choice: Choice,
    /// Whether time may be spent on timing.
    pub timed: bool,
}

/// Reads the file, loads the images, and looks.
///
/// # Errors
/// [`LabError`] where the file is no model, or images are given that it cannot be run on.
pub fn doctor<E: Events + Progress>(
    config: &Config,
    request: Request<'_>,
    isa: Isa,
    events: &E,
) -> Result<Diagnosis, LabError> {
    let file = request.file;
    let (patient, opened) = admitted(file, config, isa)?;
    if opened.is_none() && (request.with_images || request.timed) {
        return Err(LabError::Mismatch(format!(
            "{}: is a checkpoint, which is not run on images: give the model that the training made, or leave --data and --time out",
            file.display()
        )));
    }
    let patient = patient.with_timing(request.timed);
    let Some(opened) = opened.filter(|_| request.with_images) else {
        return diagnose(&patient);
    };
    let opened = match opened {
        Ok(opened) => opened,
        // Its graph can be looked at all the same; of others there would be nothing to say.
        Err(_) if patient.has_quantized_weights() => return diagnose(&patient),
        Err(error) => return Err(error),
    };
    let chosen = chosen(file, &opened, request.choice, config, events)?;
    let (patient, preprocessing) = match &opened.foreign {
        Some(foreign) => prepared(patient, foreign, &chosen, config, isa)?,
        None => (patient, None),
    };
    if let Some(line) = &preprocessing {
        Events::note(events, line);
    }
    Events::stage(events, "looking");
    let images = images(&chosen.input, config, preprocessing);
    diagnose(&patient.with_images(images))
}

/// What could be read of a file: the patient, and the model that lowbit runs, or why it does not. Nothing of checkpoints.
type Admitted<'a> = (Patient<'a>, Option<Result<ModelFile, LabError>>);

fn admitted<'a>(file: &'a Path, config: &Config, isa: Isa) -> Result<Admitted<'a>, LabError> {
    if is_onnx(file) {
        let contents = Contents::read(file)?;
        let opened = models::open(file, config);
        let model = match &opened {
            Ok(opened) => Ok(opened.stored.clone()),
            Err(error) => Err(without_path(error, file)),
        };
        return Ok((Patient::onnx(file, contents, model, isa), Some(opened)));
    }
    // A checkpoint would open as the model that it holds.
    if let Ok(checkpoint) = load_checkpoint(file) {
        return Ok((Patient::of_checkpoint(file, checkpoint, isa), None));
    }
    let opened = models::open(file, config)?;
    let patient = Patient::lowbit(file, opened.stored.clone(), isa)?;
    Ok((patient, Some(Ok(opened))))
}

/// Why lowbit does not run a model, where its name stands before it already.
fn without_path(error: &LabError, file: &Path) -> String {
    let text = error.to_string();
    let reason = text.strip_prefix(&format!("{}: ", file.display()));
    format!("lowbit does not run it ({})", reason.unwrap_or(&text))
}

fn chosen(
    file: &Path,
    opened: &ModelFile,
    choice: Choice,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Chosen, LabError> {
    let measured = Measured {
        file,
        graph: match &opened.stored {
            StoredModel::Float { graph, .. } => graph,
            StoredModel::Quantized(model) => &model.graph,
        },
        record: opened.record.as_ref(),
        foreign: opened.foreign.as_ref(),
    };
    images_for(
        &measured,
        Purpose::CalibrateAndEvaluate,
        choice,
        config,
        progress,
    )
}

/// A foreign model with the preprocessing that the labels find, where neither the user nor the file said one: that under which most images are right,
/// if need be with its classes in another order. Says what was found.
fn prepared<'a>(
    patient: Patient<'a>,
    foreign: &Foreign,
    chosen: &Chosen,
    config: &Config,
    isa: Isa,
) -> Result<(Patient<'a>, Option<String>), LabError> {
    let data = &chosen.input.data;
    let labelled = (&data.test, data.class_names.len());
    let given = config.onnx.preprocess.as_str();
    if data.test.is_empty() {
        return Ok((patient, None));
    }
    if given.is_empty() && foreign.has_preprocessing {
        return Ok((patient, Some("preprocessing as the file says it".into())));
    }
    let found = find_preprocessing(foreign, labelled, config, isa);
    match (given, found) {
        ("", Ok(found)) => {
            let opened = open_onnx(&foreign.file, config, &found.name)?;
            Ok((patient.with_model(opened.stored), Some(found.describe())))
        }
        ("", Err(LabError::Mismatch(_))) => {
            let best = best_in_any_order(foreign, &data.test, config, isa)?;
            let opened = open_onnx(&foreign.file, config, best)?;
            let line = format!("at chance with every preprocessing; looked at with {best}");
            Ok((patient.with_model(opened.stored), Some(line)))
        }
        (_, Ok(found)) if found.name != given => {
            let line = format!(
                "with --preprocess {} {:.1} % of {} images would be right",
                found.name,
                100.0 * found.tried[0].1,
                found.images
            );
            Ok((patient, Some(line)))
        }
        (_, Ok(_) | Err(LabError::Mismatch(_))) => Ok((patient, None)),
        (_, Err(error)) => Err(error),
    }
}

/// The preprocessing under which the most images would be right if classes stood in another order; the first where none is.
fn best_in_any_order(
    foreign: &Foreign,
    test: &Split,
    config: &Config,
    isa: Isa,
) -> Result<&'static str, LabError> {
    let count = test.len().min(TRIED);
    let some: Vec<usize> = (0..count).map(|i| i * test.len() / count).collect();
    let some = test.take(&some);
    let mut best = (0.0, PREPROCESSINGS[0]);
    for name in PREPROCESSINGS {
        // Not every model can be read with every preprocessing.
        let Ok(opened) = open_onnx(&foreign.file, config, name) else {
            continue;
        };
        let model: Box<dyn Model> = match opened.stored {
            StoredModel::Float { graph, weights } => {
                Box::new(FloatModel::compile(&graph, &weights, isa)?)
            }
            StoredModel::Quantized(model) => Box::new(IntegerModel::compile(&model, isa)?),
        };
        let found = evaluate(&*model, &some)?;
        if let Some(order) = reordered(&found.confusion)
            && order.after > best.0
        {
            best = (order.after, name);
        }
    }
    Ok(best.1)
}

fn images(input: &Input, config: &Config, preprocessing: Option<String>) -> Images {
    let data = &input.data;
    let count = data.test.len().min(MOST);
    let spread: Vec<usize> = (0..count).map(|i| i * data.test.len() / count).collect();
    Images {
        test: data.test.take(&spread),
        calibration: data.train.take(&input.calibration_indices(config)),
        class_names: data.class_names.clone(),
        preprocessing,
    }
}
