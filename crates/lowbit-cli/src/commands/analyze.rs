//! `lowbit analyze`: what the runs of a sweep come to.

use super::Context;
use crate::failure::Failure;
use crate::output::bold;
use crate::table::table;
use lowbit::format::write_atomically;
use lowbit_lab::analysis::runs::{self, Runs};
use lowbit_lab::analysis::{Analysis, Table, UNEQUAL, WidthRow, analyze};
use lowbit_lab::experiments::artifacts::write_json;
use lowbit_lab::roofline::Roofline;
use lowbit_lab::{plural, report};
use std::path::{Path, PathBuf};

/// What a user says of how runs are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Points that the sweet spot may lose.
    pub(super) max_drop: f64,
    /// What a megabyte costs that a federation sends.
    pub(super) cost_per_mb: Option<f64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            max_drop: 1.0,
            cost_per_mb: None,
        }
    }
}

pub(super) fn run(context: &Context, folder: Option<PathBuf>, terms: Terms) -> Result<(), Failure> {
    let folder = folder.unwrap_or_else(|| context.config.results.out.clone());
    write_and_report(context, &folder, &runs::read(&folder)?, terms)
}

/// Where `lowbit bench --roofline` and `lowbit sweep` put the roofline.
pub(super) const ROOFLINE: &str = "roofline.json";

pub(super) fn write_and_report(
    context: &Context,
    folder: &Path,
    runs: &Runs,
    terms: Terms,
) -> Result<(), Failure> {
    let found = analyze(runs, terms.max_drop);
    for skipped in &found.skipped {
        context.output.note(&format!("warning: skipped {skipped}"));
    }
    write_json(&folder.join("results_summary.json"), &found)?;
    write_atomically(&folder.join("results_summary.csv"), found.csv().as_bytes())?;
    let roofline = roofline(context, folder);
    let page = report::page(runs, &found, roofline.as_ref(), terms.cost_per_mb);
    write_atomically(&folder.join("report.html"), page.as_bytes())?;
    context.output.results(&found, || report(&found, folder))?;
    context.output.written(&folder.join("report.html"))
}

/// The roofline that was measured into this folder, if there is one.
fn roofline(context: &Context, folder: &Path) -> Option<Roofline> {
    let file = folder.join(ROOFLINE);
    let bytes = std::fs::read(&file).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(roofline) => Some(roofline),
        Err(error) => {
            let line = format!("warning: skipped {}: {error}", file.display());
            context.output.note(&line);
            None
        }
    }
}

/// All tables, the newest last, where one looks first.
fn report(found: &Analysis, folder: &Path) -> String {
    let tables: Vec<&Table> = found.tables().collect();
    let mut text: String = tables
        .iter()
        .rev()
        .map(|table| table_and_summary(table))
        .collect();
    if !found.beside.is_empty() {
        text += &format!(
            "also in {}, not shown: {} (lowbit analyze {} shows them)\n",
            folder.display(),
            found.beside.join("; "),
            folder.display(),
        );
    }
    text
}

fn table_and_summary(found: &Table) -> String {
    let row = |row: &WidthRow| {
        let accuracy = row.test_accuracy;
        let half = (accuracy.high - accuracy.low) / 2.0;
        let number = |value: f64, digits: usize, unit: &str| {
            if value.is_finite() {
                format!("{value:.digits$}{unit}")
            } else {
                "–".into()
            }
        };
        vec![
            row.label.clone(),
            number(row.size_mb, 3, ""),
            number(row.compression_ratio, 2, "×"),
            if half.is_finite() {
                format!("{:.2} ±{half:.2}", accuracy.value)
            } else {
                format!("{:.2}", accuracy.value)
            },
            match (row.accuracy_delta, row.accuracy_delta_interval) {
                (None, _) => "–".into(),
                (Some(delta), None) => format!("{delta:+.2}"),
                (Some(delta), Some([low, high])) => {
                    format!("{delta:+.2} ±{:.2}", (high - low) / 2.0)
                }
            },
            number(row.overfitting_gap, 2, ""),
            number(row.img_per_s, 0, ""),
            number(row.speedup, 2, "×"),
            number(row.training_time_seconds, 0, ""),
            row.runs.to_string(),
        ]
    };
    let rows: Vec<_> = found.widths.iter().map(row).collect();
    let header = [
        "bits", "MB", "smaller", "test %", "Δ to 32", "gap", "img/s", "faster", "train s", "runs",
    ];
    let summary = &found.summary;
    let bits = |label: &Option<String>| label.as_ref().map_or("unknown".into(), plural::bits);
    let spot = match (&summary.no_verdict, &summary.sweet_spot) {
        (Some(line), _) => line.clone(),
        (None, Some(label)) => format!(
            "{}: {}, the smallest model within {} of 32 bits",
            bold("sweet spot"),
            plural::bits(label),
            summary.allowed()
        ),
        (None, None) => "no 32-bit run to compare with, or no file sizes".into(),
    };
    let guesses = if summary.not_learned.is_empty() {
        String::new()
    } else {
        let labels: Vec<String> = summary.not_learned.iter().map(plural::bits).collect();
        format!(
            "\nnot shown to be better than a guess, or diverged: {}",
            labels.join(", ")
        )
    };
    let unequal = match found.widths.iter().any(|row| row.warm_started) {
        true => format!("\n{UNEQUAL}"),
        false => String::new(),
    };
    // Of 32 bits alone there is no average.
    let smaller = match summary.average_compression {
        average if average.is_finite() => format!(", {average:.1}× smaller on average"),
        _ => String::new(),
    };
    // Older runs do not say what they reached on the training images.
    let gap = match [summary.average_overfitting, summary.largest_overfitting] {
        [average, most] if average.is_finite() => {
            format!("; train − test {average:.2} points on average, {most:.2} at most")
        }
        _ => String::new(),
    };
    let notes: String = summary
        .notes
        .iter()
        .map(|note| format!("\n{note}"))
        .collect();
    format!(
        "\n{}\n\n{}\n{spot}{notes}{guesses}{unequal}\nbest accuracy at {}, smallest file at {}{smaller}{gap}\n",
        bold(&found.title),
        table(&header, &rows),
        bits(&summary.best_accuracy),
        bits(&summary.best_compression),
    )
}
