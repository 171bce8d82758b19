//! `lowbit eval`: accuracy of a model file.

use super::Context;
use crate::failure::Failure;
use crate::table::table;
use lowbit::format::{self, StoredModel};
use lowbit::runtime::{FloatModel, IntegerModel, Model};
use lowbit_lab::evaluate::evaluate;
use lowbit_lab::experiments::compare::check_fits;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Results {
    model: String,
    kind: &'static str,
    data: String,
    synthetic: bool,
    test_images: usize,
    accuracy: f64,
    loss: f64,
    class_names: Vec<String>,
    confusion: Vec<Vec<usize>>,
}

pub(super) fn run(context: &Context, file: &Path) -> Result<(), Failure> {
    let stored = format::load(file)?;
    let (model, kind): (Box<dyn Model>, _) = match &stored {
        StoredModel::Float { graph, weights } => (
            Box::new(FloatModel::compile(graph, weights, context.isa)?),
            "fp32",
        ),
        StoredModel::Quantized(model) => (
            Box::new(IntegerModel::compile(model, context.isa)?),
            "integer",
        ),
    };
    let data = context.load_data(None)?;
    check_fits(model.graph(), &data, file)?;
    let evaluation = evaluate(&*model, &data.test);
    let results = Results {
        model: file.display().to_string(),
        kind,
        data: data.name.clone(),
        synthetic: data.synthetic,
        test_images: data.test.len(),
        accuracy: 100.0 * evaluation.accuracy(),
        loss: evaluation.loss,
        class_names: data.class_names.clone(),
        confusion: evaluation.confusion,
    };
    context.output.results(&results, || report(&results));
    Ok(())
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
            let share = |of: usize| format!("{:.1}", 100.0 * row[class] as f64 / of.max(1) as f64);
            vec![
                name.clone(),
                images.to_string(),
                share(images),
                share(predicted),
            ]
        })
        .collect();
    format!(
        "{} ({}): {:.2} % of {} test images right, loss {:.4}\n\n{}",
        results.model,
        results.kind,
        results.accuracy,
        results.test_images,
        results.loss,
        table(&["class", "images", "recall %", "precision %"], &rows)
    )
}
