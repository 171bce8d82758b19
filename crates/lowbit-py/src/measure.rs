//! A model over test images, and two models against each other.

use crate::dataset::PyInput;
use crate::model::PyModel;
use crate::state::State;
use crate::threads::work;
use lowbit::Isa;
use lowbit::format::StoredModel;
use lowbit::quant::ActivationQuant;
use lowbit_lab::LabError;
use lowbit_lab::evaluate::evaluate as over;
use lowbit_lab::experiments::unseen::check_test;
use lowbit_lab::machine::Machine;
use lowbit_lab::plural;
use lowbit_lab::report::pair_figures;
use lowbit_lab::statistics::paired_difference;
use lowbit_lab::timing;
use lowbit_lab::training::bit_exact;
use pyo3::prelude::*;
use serde_json::{Value, json};

/// Measures `model` on the test images; JSON.
#[pyfunction]
pub(crate) fn evaluate(
    py: Python<'_>,
    model: &PyModel,
    input: &PyInput,
    all: bool,
) -> PyResult<String> {
    let state = model.state();
    let value = work(py, || -> Result<Value, LabError> {
        let input = state.fitted(&input.input)?;
        let seen = check_test(&state.measured(), &input, all)?;
        let found = over(&*state.compiled()?, &input.data.test)?;
        let exact = match &state.stored {
            StoredModel::Float { .. } => None,
            StoredModel::Quantized(model) => bit_exact(model, &found, &input.data)?,
        };
        Ok(json!({
            "accuracy": found.accuracy(),
            "loss": found.loss,
            "predictions": found.predictions,
            "correct": found.correct,
            "confusion": found.confusion,
            "class_names": state.graph().class_names(),
            "logits_digest": format!("{:08x}", found.logits_digest),
            "bit_exact_with_training": exact,
            "seen": seen.map(|seen| seen.seen),
            "data": input.data.name,
        }))
    })?;
    Ok(value.to_string())
}

/// Measures two models on the same test images, and times them in turn if `speed` says so; JSON, and the charts as HTML.
#[pyfunction]
pub(crate) fn compare(
    py: Python<'_>,
    a: &PyModel,
    b: &PyModel,
    input: &PyInput,
    all: bool,
    speed: bool,
) -> PyResult<(String, String)> {
    let (a, b) = (a.state(), b.state());
    let threads = crate::threads::num_threads();
    let (value, figures) = work(py, || -> Result<(Value, String), LabError> {
        let input = a.fitted(&input.input)?;
        check_test(&a.measured(), &input, all)?;
        check_test(&b.measured(), &input, all)?;
        if a.graph().input() != b.graph().input() || a.graph().classes() != b.graph().classes() {
            return Err(LabError::Mismatch(format!(
                "{} and {}: take other images or know other classes",
                a.name.display(),
                b.name.display()
            )));
        }
        let test = &input.data.test;
        let (first, second) = (a.compiled()?, b.compiled()?);
        let (found, against) = (over(&*first, test)?, over(&*second, test)?);
        let drop = paired_difference(&found.correct, &against.correct).in_percent();
        let side = |state: &State, bytes: usize, e: &lowbit_lab::evaluate::Evaluation| {
            json!({
                "name": state.name.display().to_string(),
                "label": label(state),
                "bits": state.bits(),
                "size_bytes": bytes,
                "accuracy_percent": 100.0 * e.accuracy(),
                "loss": e.loss,
                "confusion": e.confusion,
                "logits_digest": format!("{:08x}", e.logits_digest),
            })
        };
        let sizes = [a.encoded()?.len(), b.encoded()?.len()];
        let mut value = json!({
            "models": [side(&a, sizes[0], &found), side(&b, sizes[1], &against)],
            "compression_ratio": sizes[0] as f64 / sizes[1] as f64,
            "accuracy_drop_points": drop,
            "predictions_changed": found.changed(&against),
            "class_names": a.graph().class_names(),
            "test_images": test.len(),
            "data": input.data.name,
            "synthetic": input.data.synthetic,
            "machine": Machine::here(Isa::current()?).summary(),
            "speed": [],
            "layers": [],
        });
        if !speed {
            return Ok((value, String::new()));
        }
        let images = &test.first(64)?;
        let speeds = timing::measure(&*first, &*second, images, threads);
        let layers = match a.graph().nodes() == b.graph().nodes() {
            true => timing::layers(&*first, &*second, images),
            false => Vec::new(),
        };
        let (one, other) = match (label(&a), label(&b)) {
            (one, other) if one == other => (format!("first, {one}"), format!("second, {other}")),
            names => names,
        };
        let figures = pair_figures([&one, &other], &speeds, &layers);
        // Either model may be either kind: the keys say which side, not which width.
        value["speed"] = speeds
            .iter()
            .map(|cell| {
                json!({
                    "threads": cell.threads,
                    "batch": cell.batch,
                    "first_ms": cell.fp32_ms,
                    "second_ms": cell.quantized_ms,
                    "speedup": cell.speedup,
                })
            })
            .collect();
        value["layers"] = layers
            .iter()
            .map(|layer| {
                json!({
                    "name": layer.name,
                    "batch": layer.batch,
                    "macs": layer.macs,
                    "first_ms": layer.fp32_ms,
                    "second_ms": layer.quantized_ms,
                })
            })
            .collect();
        Ok((value, figures))
    })?;
    Ok((value.to_string(), figures))
}

/// What a column of this model is called: its widths, as the command line says them.
fn label(state: &State) -> String {
    match &state.stored {
        StoredModel::Float { .. } => "FP32".into(),
        StoredModel::Quantized(model) if model.method == ActivationQuant::WeightOnly => {
            format!("{}, weights alone", plural::bits(state.bits()))
        }
        StoredModel::Quantized(_) => plural::bits(state.bits()),
    }
}
