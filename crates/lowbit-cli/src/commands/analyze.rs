//! `lowbit analyze`: what the runs of a sweep come to.

use super::Context;
use crate::failure::Failure;
use crate::output::bold;
use crate::table::table;
use lowbit::format::write_atomically;
use lowbit_lab::analysis::{Analysis, WidthRow, analyze};
use std::path::{Path, PathBuf};

/// Points that the sweet spot may lose where nothing else is said.
pub(super) const MAX_DROP: f64 = 1.0;

pub(super) fn run(
    context: &Context,
    folder: Option<PathBuf>,
    max_drop: f64,
) -> Result<(), Failure> {
    let folder = folder.unwrap_or_else(|| context.config.out.clone());
    let found = analyze(&folder, max_drop)?;
    write_and_report(context, &folder, &found)
}

pub(super) fn write_and_report(
    context: &Context,
    folder: &Path,
    found: &Analysis,
) -> Result<(), Failure> {
    for skipped in &found.skipped {
        context.output.note(&format!("warning: skipped {skipped}"));
    }
    let json = serde_json::to_string_pretty(found).expect("results are plain data");
    write_atomically(&folder.join("results_summary.json"), json.as_bytes())?;
    write_atomically(&folder.join("results_summary.csv"), found.csv().as_bytes())?;
    context.output.results(found, || report(found));
    context.output.written(folder);
    Ok(())
}

fn report(found: &Analysis) -> String {
    let row = |row: &WidthRow| {
        let accuracy = row.test_accuracy;
        let half = (accuracy.high - accuracy.low) / 2.0;
        vec![
            row.bit_width.to_string(),
            format!("{:.3}", row.size_mb),
            format!("{:.2}×", row.compression_ratio),
            if half.is_finite() {
                format!("{:.2} ±{half:.2}", accuracy.value)
            } else {
                format!("{:.2}", accuracy.value)
            },
            row.accuracy_delta
                .map_or("–".into(), |delta| format!("{delta:+.2}")),
            format!("{:+.2}", row.overfitting_gap),
            format!("{:.0}", row.img_per_s),
            format!("{:.2}×", row.speedup),
            format!("{:.0}", row.training_time_seconds),
            row.runs.to_string(),
        ]
    };
    let rows: Vec<_> = found.widths.iter().map(row).collect();
    let header = [
        "bits", "MB", "smaller", "test %", "Δ to 32", "gap", "img/s", "faster", "train s", "runs",
    ];
    let summary = &found.summary;
    let spot = match summary.sweet_spot {
        Some(bits) => format!(
            "{}: {bits} bits, the smallest model within {} points of 32 bits",
            bold("sweet spot"),
            summary.max_drop
        ),
        None => "no 32-bit run to compare with".into(),
    };
    format!(
        "\n{}\n{spot}\nbest accuracy at {} bits, smallest file at {} bits, {:.1}× smaller on average; overfitting {:.2} points on average, {:.2} at most\n",
        table(&header, &rows),
        summary.best_accuracy,
        summary.best_compression,
        summary.average_compression,
        summary.average_overfitting,
        summary.largest_overfitting,
    )
}
