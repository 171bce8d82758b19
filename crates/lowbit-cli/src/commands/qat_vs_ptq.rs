//! `lowbit qat-vs-ptq`: train with quantization, or quantize after?

use super::Context;
use crate::failure::Failure;
use crate::output::bold;
use crate::table::table;
use crate::which_images::WhichOfFrom;
use lowbit::WeightBits;
use lowbit_lab::Events;
use lowbit_lab::experiments::compare::From;
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::experiments::qat_vs_ptq::{self, FOLDER, MethodResults, Results, Start};
use lowbit_lab::experiments::unseen::Purpose;
use lowbit_lab::plural::{self, grouped};
use lowbit_lab::tensorboard::TensorBoard;
use std::path::PathBuf;

pub(super) fn run(
    context: &Context,
    from: Option<PathBuf>,
    runs: Option<PathBuf>,
    which: WhichOfFrom,
) -> Result<(), Failure> {
    if context.config.widths.bits == WeightBits::B16 {
        return Err(Failure::Input("--bits 16: use 8, 4, 2 or 1".into()));
    }
    if !context.config.recipe.start_from.as_os_str().is_empty() {
        return Err(Failure::Input(
            "start_from: qat-vs-ptq begins with fresh weights, or takes a trained FP32 model with --from".into(),
        ));
    }
    let choice = which.of(from.as_deref())?;
    let start = Start {
        from: None,
        runs: runs.as_deref(),
        resume: context.resume,
    };
    let results = match from {
        None => qat_vs_ptq(context, &context.input()?, &start)?,
        Some(file) => {
            let (model, chosen) = context.begin_from(&file, Purpose::FineTune, choice)?;
            let from = From {
                file: &file,
                model: &model,
                evaluated: &chosen.evaluated,
            };
            let start = Start {
                from: Some(from),
                ..start
            };
            qat_vs_ptq(context, &chosen.input, &start)?
        }
    };
    context.progress.stop();
    context.output.results(&results, || report(&results))?;
    context
        .output
        .written(&context.config.results.out.join(FOLDER))
}

fn qat_vs_ptq(context: &Context, input: &Input, start: &Start<'_>) -> Result<Results, Failure> {
    let events = match TensorBoard::of(&context.config)? {
        Some(board) => board.stages(Box::new(&context.progress)),
        None => Box::new(&context.progress) as Box<dyn Events>,
    };
    Ok(qat_vs_ptq::qat_vs_ptq(
        &context.config,
        input,
        start,
        context.isa,
        &*events,
    )?)
}

fn report(results: &Results) -> String {
    let methods = [
        &results.fp32_results,
        &results.ptq_results,
        &results.qat_results,
    ];
    let row = |name: &str, of: &dyn Fn(&MethodResults) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(methods.iter().map(|method| of(method)));
        row
    };
    let best = |method: &MethodResults| {
        method
            .best_test_accuracy_percent
            .map_or("–".into(), |best| format!("{best:.2}"))
    };
    let interval = |method: &MethodResults| match method.final_test_accuracy_percent_interval {
        Some([low, high]) => format!("[{low:.2}, {high:.2}]"),
        None => "–".into(),
    };
    let rows = [
        row("final test accuracy, %", &|m| {
            format!("{:.2}", m.final_test_accuracy_percent)
        }),
        row("  95 % over seeds", &interval),
        row("best test accuracy, %", &best),
        row("train accuracy, %", &|m| {
            format!("{:.2}", m.train_accuracy_percent)
        }),
        row("overfitting gap, points", &|m| {
            format!("{:+.2}", m.overfitting_gap_points)
        }),
        row("file, bytes", &|m| grouped(m.size_bytes)),
        row("img/s, 1 thread", &|m| format!("{:.0}", m.img_per_s)),
        row("training, s", &|m| {
            if m.training_time_seconds > 0.0 {
                format!("{:.0}", m.training_time_seconds)
            } else {
                "–".into()
            }
        }),
    ];
    let bits = results.bits;
    let header = [
        "",
        "FP32",
        &format!("PTQ {bits}-bit"),
        &format!("QAT {bits}-bit"),
    ];
    let verdict = &results.comparison.comparison;
    let seeds = plural::of(results.config.repeats.seeds, "seed");
    let interval =
        verdict
            .accuracy_ptq_minus_qat_points_interval
            .map_or(String::new(), |[low, high]| {
                format!(", 95 % interval [{low:+.2}, {high:+.2}] over {seeds} and the test images")
            });
    format!(
        "\n{}\n\n{}\nPTQ − QAT: {:+.2} points{interval}\n{}: {}. {}\n",
        bold(&format!(
            "{} on {}{}, {}, {}",
            results.model,
            results.data.name,
            if results.data.synthetic {
                " (synthetic data)"
            } else {
                ""
            },
            plural::of(results.data.test_images, "test image"),
            results.machine.summary()
        )),
        table(&header, &rows),
        verdict.accuracy_ptq_minus_qat_points,
        bold(&verdict.winner.to_string()),
        verdict.reason,
        verdict.advice,
    )
}
