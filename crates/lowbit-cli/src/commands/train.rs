//! `lowbit train`: FP32 training alone, from fresh weights or those of a model.

use super::Context;
use crate::failure::Failure;
use crate::which_images::Beginning;
use lowbit_lab::Events;
use lowbit_lab::experiments::compare::From;
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::experiments::train::{self, FOLDER, TrainResults};
use lowbit_lab::plural;
use lowbit_lab::tensorboard::TensorBoard;

pub(super) fn run(context: &Context, beginning: &Beginning) -> Result<(), Failure> {
    let results = match (&beginning.from, context.beginning(beginning)?) {
        (Some(file), Some((model, chosen))) => {
            let from = From {
                file,
                model: &model,
                evaluated: &chosen.evaluated,
            };
            train(context, &chosen.input, Some(from))?
        }
        _ => train(context, &context.input()?, None)?,
    };
    context.output.results(&results, || report(&results))?;
    context
        .output
        .written(&context.config.results.out.join(FOLDER))
}

fn train(
    context: &Context,
    input: &Input,
    from: Option<From<'_>>,
) -> Result<TrainResults, Failure> {
    let events = match TensorBoard::of(&context.config)? {
        Some(board) => board.training("train", Box::new(&context.progress)),
        None => Box::new(&context.progress) as Box<dyn Events>,
    };
    let results = train::train(
        &context.config,
        input,
        from,
        context.resume,
        context.isa,
        &*events,
    );
    Ok(results?)
}

fn report(results: &TrainResults) -> String {
    let mut text = format!(
        "{} on {}: {:.2} % test accuracy after {} in {:.0} s",
        results.model,
        results.data.name,
        100.0 * results.final_test_accuracy,
        plural::of(results.epochs.len(), "epoch"),
        results.training_time_seconds,
    );
    if results.data.validation_images > 0 {
        text += &format!(
            "; the validation images chose epoch {}",
            results.chosen_epoch
        );
    }
    if let Some(from) = &results.from {
        text += &format!(
            "\n{} had {:.2} % before",
            from.file,
            100.0 * from.test_accuracy
        );
    }
    if let Some(line) = &results.no_verdict {
        text += &format!("\n{line}");
    }
    text
}
