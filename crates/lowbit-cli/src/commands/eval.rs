//! `lowbit eval`: accuracy of a model file.

use super::Context;
use crate::failure::Failure;
use crate::table::table;
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::StoredModel;
use lowbit::quant::ActivationQuant;
use lowbit_lab::evaluate::evaluate;
use lowbit_lab::experiments::unseen::{Choice, Evaluated, Measured, Purpose};
use lowbit_lab::models::ModelFile;
use lowbit_lab::plural;
use lowbit_lab::training::bit_exact;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Results {
    model: String,
    kind: &'static str,
    data: String,
    synthetic: bool,
    test_images: usize,
    /// Which images were measured.
    evaluated: Evaluated,
    /// The same for people.
    #[serde(skip)]
    measured: String,
    accuracy_percent: f64,
    loss: f64,
    /// Whether training's last evaluation gave the same logits to the bit; none where there was none.
    bit_exact_with_training: Option<bool>,
    class_names: Vec<String>,
    confusion: Vec<Vec<usize>>,
}

pub(super) fn run(context: &Context, file: &Path, choice: Choice) -> Result<(), Failure> {
    let ModelFile {
        stored,
        record,
        foreign,
    } = context.open(file)?;
    let (model, kind): (Box<dyn Model>, _) = match &stored {
        StoredModel::Float { graph, weights } => (
            Box::new(FloatModel::compile(graph, weights, context.isa)?),
            "fp32",
        ),
        StoredModel::Quantized(model) => (
            Box::new(IntegerModel::compile(model, context.isa)?),
            match model.method {
                ActivationQuant::WeightOnly => "weight-only",
                ActivationQuant::Static | ActivationQuant::Dynamic => "integer",
            },
        ),
    };
    let measured = Measured {
        file,
        graph: model.graph(),
        record: record.as_ref(),
        foreign: foreign.as_ref(),
    };
    let chosen = context.input_for(&measured, Purpose::Evaluate, choice)?;
    let data = &chosen.input.data;
    let evaluation = evaluate(&*model, &data.test)?;
    let exact = match &stored {
        StoredModel::Float { .. } => None,
        StoredModel::Quantized(model) => bit_exact(model, &evaluation, data)?,
    };
    let results = Results {
        model: file.display().to_string(),
        kind,
        data: data.name.clone(),
        synthetic: data.synthetic,
        test_images: data.test.len(),
        measured: chosen.describe(),
        evaluated: chosen.evaluated.clone(),
        accuracy_percent: 100.0 * evaluation.accuracy(),
        loss: evaluation.loss,
        bit_exact_with_training: exact,
        class_names: data.class_names.clone(),
        confusion: evaluation.confusion,
    };
    context.output.results(&results, || report(&results))
}

fn report(results: &Results) -> String {
    let rows: Vec<Vec<String>> = results
        .class_names
        .iter()
        .zip(&results.confusion)
        .enumerate()
        .map(|(class, (name, row))| {
            let images: usize = row.iter().sum();
            let predicted: usize = results.confusion.iter().map(|row| row[class]).sum();
            // Of no images there is no share.
            let share = |of: usize| match of {
                0 => "–".to_owned(),
                of => format!("{:.1}", 100.0 * row[class] as f64 / of as f64),
            };
            vec![
                name.clone(),
                images.to_string(),
                share(images),
                share(predicted),
            ]
        })
        .collect();
    let exact = match results.bit_exact_with_training {
        None => "",
        Some(true) => {
            "\nbit-exact with training: every logit is the one that training's last evaluation gave"
        }
        Some(false) => {
            "\nNOT bit-exact with training: the logits differ from those of training's last evaluation"
        }
    };
    format!(
        "{} ({}): {:.2} % of {} right, loss {:.4}{exact}\nmeasured on {}\n\n{}",
        results.model,
        results.kind,
        results.accuracy_percent,
        plural::of(results.test_images, "image"),
        results.loss,
        results.measured,
        table(&["class", "images", "recall %", "precision %"], &rows)
    )
}
