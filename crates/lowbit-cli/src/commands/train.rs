//! `lowbit train`: FP32 training alone.

use super::Context;
use crate::failure::Failure;
use lowbit_lab::experiments::train::{self, FOLDER, TrainResults};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let input = context.input()?;
    let results = train::train(
        &context.config,
        &input,
        context.resume,
        context.isa,
        &context.progress,
    )?;
    context.output.results(&results, || report(&results))?;
    context
        .output
        .written(&context.config.results.out.join(FOLDER))
}

fn report(results: &TrainResults) -> String {
    let mut text = format!(
        "{} on {}: {:.2} % test accuracy after {} epochs in {:.0} s",
        results.model,
        results.data.name,
        100.0 * results.final_test_accuracy,
        results.epochs.len(),
        results.training_time_seconds,
    );
    if let Some(line) = &results.no_verdict {
        text += &format!("\n{line}");
    }
    text
}
