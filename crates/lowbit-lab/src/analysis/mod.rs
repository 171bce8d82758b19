//! Reading the runs of a sweep back: one row per width, and what follows from them.

pub mod runs;

use crate::experiments::sweep::{CompressionMetrics, RunResults};
use crate::statistics::{Difference, mean_interval};
use lowbit::quant::FLOAT_ACTIVATIONS;
use runs::{Run, Runs};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One width over its runs (seeds).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WidthRow {
    /// Bits per weight.
    pub bit_width: u8,
    /// The width, and what is not 8 bits wide besides: `1 (edges 1)`.
    pub label: String,
    /// Runs.
    pub runs: usize,
    /// The packed file, 10⁶ bytes.
    pub size_mb: f64,
    /// FP32 bytes over packed bytes.
    pub compression_ratio: f64,
    /// Bytes saved, percent.
    pub size_reduction_percent: f64,
    /// Mean over runs, percent, with its 95 % interval (Student's t).
    #[serde(rename = "test_accuracy_percent", alias = "test_accuracy")]
    pub test_accuracy: Difference,
    /// Mean over runs, percent.
    #[serde(rename = "train_accuracy_percent", alias = "train_accuracy")]
    pub train_accuracy: f64,
    /// Train − test, points.
    #[serde(rename = "overfitting_gap_points", alias = "overfitting_gap")]
    pub overfitting_gap: f64,
    /// Test accuracy − that of 32 bits, points; none without a 32-bit run.
    #[serde(rename = "accuracy_delta_points", alias = "accuracy_delta")]
    pub accuracy_delta: Option<f64>,
    /// At batch 64 on one thread.
    pub img_per_s: f64,
    /// Against FP32.
    pub speedup: f64,
    /// Mean over runs.
    pub training_time_seconds: f64,
    /// Of the newest run.
    pub folder: PathBuf,
}

/// What the rows come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Row with the smallest file; none where no size is known.
    pub best_compression: Option<String>,
    /// Row with the highest test accuracy.
    pub best_accuracy: Option<String>,
    /// Mean over widths below 32 bits.
    pub average_compression: f64,
    /// Mean over widths, points.
    #[serde(rename = "average_overfitting_points", alias = "average_overfitting")]
    pub average_overfitting: f64,
    /// Largest of all widths, points.
    #[serde(rename = "largest_overfitting_points", alias = "largest_overfitting")]
    pub largest_overfitting: f64,
    /// The smallest model within `max_drop` points of 32 bits; none without a 32-bit run.
    pub sweet_spot: Option<String>,
    /// Points that the sweet spot may lose.
    #[serde(rename = "max_drop_points", alias = "max_drop")]
    pub max_drop: f64,
}

/// `results_summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Widest first.
    pub widths: Vec<WidthRow>,
    /// What they come to.
    pub summary: Summary,
    /// Files that could not be used, and why.
    pub skipped: Vec<String>,
}

/// What the runs come to, width by width.
#[must_use]
pub fn analyze(found: &Runs, max_drop: f64) -> Analysis {
    let groups = groups(&found.runs);
    let baseline = groups
        .iter()
        .find(|(kind, _)| kind.bits == 32)
        .map(|(_, runs)| mean(runs, |run| Some(100.0 * run.final_test_accuracy)));
    let widths: Vec<WidthRow> = groups
        .iter()
        .map(|(kind, runs)| row(kind, runs, baseline))
        .collect();
    Analysis {
        summary: summarize(&widths, max_drop),
        widths,
        skipped: found.skipped.clone(),
    }
}

/// What makes a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    bits: u8,
    /// Of the first and the last layer.
    edges: u8,
    activations: u8,
}

impl Kind {
    fn of(run: &RunResults) -> Self {
        let bits = run.bit_width;
        match &run.config {
            Some(config) if bits < 32 => Self {
                bits,
                edges: config.widths.edge_bits.max(bits),
                activations: config.widths.act_bits,
            },
            _ => Self {
                bits,
                edges: bits.max(8),
                activations: 8,
            },
        }
    }

    /// `8`, or `1 (edges 1, activations 4)` where they are not 8 bits wide.
    pub(crate) fn label(&self) -> String {
        let mut special = Vec::new();
        if self.edges != self.bits.max(8) {
            special.push(format!("edges {}", self.edges));
        }
        if self.activations != 8 {
            special.push(match self.activations {
                FLOAT_ACTIVATIONS => "float activations".into(),
                bits => format!("activations {bits}"),
            });
        }
        if special.is_empty() {
            self.bits.to_string()
        } else {
            format!("{} ({})", self.bits, special.join(", "))
        }
    }
}

/// The runs by kind, widest first.
pub(crate) fn groups(runs: &[Run]) -> Vec<(Kind, Vec<&Run>)> {
    let mut groups: Vec<(Kind, Vec<&Run>)> = Vec::new();
    for run in runs {
        let kind = Kind::of(&run.results);
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, runs)) => runs.push(run),
            None => groups.push((kind, vec![run])),
        }
    }
    groups.sort_by_key(|(kind, _)| std::cmp::Reverse((kind.bits, kind.edges, kind.activations)));
    groups
}

/// Mean over the runs that know; not a number if none does.
fn mean(runs: &[&Run], of: impl Fn(&RunResults) -> Option<f64>) -> f64 {
    let known: Vec<f64> = runs.iter().filter_map(|run| of(&run.results)).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

fn row(kind: &Kind, runs: &[&Run], baseline: Option<f64>) -> WidthRow {
    let accuracies: Vec<f64> = runs
        .iter()
        .map(|run| 100.0 * run.results.final_test_accuracy)
        .collect();
    let test = mean_interval(&accuracies);
    let train = mean(runs, |run| {
        let last = run.results_per_round.last()?;
        Some(100.0 * last.train_accuracy).filter(|train| train.is_finite())
    });
    let metric = |of: fn(&CompressionMetrics) -> f64| {
        mean(runs, |run| run.compression_metrics.as_ref().map(of))
    };
    WidthRow {
        bit_width: kind.bits,
        label: kind.label(),
        runs: runs.len(),
        size_mb: metric(|metrics| metrics.compressed_size_mb),
        compression_ratio: metric(|metrics| metrics.compression_ratio),
        size_reduction_percent: metric(|metrics| metrics.size_reduction_percent),
        test_accuracy: test,
        train_accuracy: train,
        overfitting_gap: train - test.value,
        accuracy_delta: baseline.map(|baseline| test.value - baseline),
        img_per_s: mean(runs, |run| run.img_per_s),
        speedup: mean(runs, |run| run.speedup),
        training_time_seconds: mean(runs, |run| run.training_time_seconds),
        folder: runs
            .last()
            .map(|run| run.folder.clone())
            .unwrap_or_default(),
    }
}

fn summarize(widths: &[WidthRow], max_drop: f64) -> Summary {
    let highest = |of: fn(&WidthRow) -> f64| {
        widths
            .iter()
            .filter(|row| of(row).is_finite())
            .max_by(|a, b| of(a).total_cmp(&of(b)))
            .map(|row| row.label.clone())
    };
    let finite = |of: fn(&WidthRow) -> f64, narrow: bool| {
        let rows = widths.iter().filter(|row| !narrow || row.bit_width < 32);
        rows.map(of).filter(|x| x.is_finite()).collect::<Vec<f64>>()
    };
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let gaps = finite(|row| row.overfitting_gap, false);
    let close = widths.iter().filter(|row| {
        row.accuracy_delta.is_some_and(|d| d >= -max_drop) && row.size_mb.is_finite()
    });
    Summary {
        best_compression: highest(|row| row.compression_ratio),
        best_accuracy: highest(|row| row.test_accuracy.value),
        average_compression: average(&finite(|row| row.compression_ratio, true)),
        average_overfitting: average(&gaps),
        largest_overfitting: gaps.iter().copied().fold(f64::NAN, f64::max),
        sweet_spot: close
            .min_by(|a, b| a.size_mb.total_cmp(&b.size_mb))
            .map(|row| row.label.clone()),
        max_drop,
    }
}

impl Summary {
    /// `1 point`, `0.5 points`.
    #[must_use]
    pub fn allowed(&self) -> String {
        let unit = if self.max_drop == 1.0 {
            "point"
        } else {
            "points"
        };
        format!("{} {unit}", self.max_drop)
    }
}

impl Analysis {
    /// The rows as comma-separated values with a header.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "bit_width,label,runs,size_mb,compression_ratio,size_reduction_percent,test_accuracy_percent,\
             test_accuracy_percent_low,test_accuracy_percent_high,train_accuracy_percent,overfitting_gap_points,\
             accuracy_delta_points,img_per_s,speedup,training_time_seconds,folder\n",
        );
        for row in &self.widths {
            let finite = |x: f64| {
                if x.is_finite() {
                    format!("{x:.4}")
                } else {
                    String::new()
                }
            };
            let fields = [
                row.bit_width.to_string(),
                format!("\"{}\"", row.label),
                row.runs.to_string(),
                finite(row.size_mb),
                finite(row.compression_ratio),
                finite(row.size_reduction_percent),
                finite(row.test_accuracy.value),
                finite(row.test_accuracy.low),
                finite(row.test_accuracy.high),
                finite(row.train_accuracy),
                finite(row.overfitting_gap),
                row.accuracy_delta.map_or(String::new(), finite),
                finite(row.img_per_s),
                finite(row.speedup),
                finite(row.training_time_seconds),
                format!(
                    "\"{}\"",
                    row.folder.display().to_string().replace('"', "\"\"")
                ),
            ];
            text += &fields.join(",");
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(bits: u8, size_mb: f64, accuracy: f64, gap: f64) -> WidthRow {
        WidthRow {
            bit_width: bits,
            label: bits.to_string(),
            runs: 1,
            size_mb,
            compression_ratio: 1.6 / size_mb,
            size_reduction_percent: 0.0,
            test_accuracy: Difference {
                value: accuracy,
                low: accuracy,
                high: accuracy,
            },
            train_accuracy: accuracy + gap,
            overfitting_gap: gap,
            accuracy_delta: Some(accuracy - 90.0),
            img_per_s: 1.0,
            speedup: 1.0,
            training_time_seconds: 1.0,
            folder: PathBuf::new(),
        }
    }

    #[test]
    fn the_sweet_spot_is_the_smallest_model_within_the_drop_and_not_the_first() {
        let widths = [
            width(32, 1.6, 90.0, 3.0),
            width(8, 0.4, 89.8, 2.0),
            width(4, 0.2, 88.0, 1.0),
            width(2, 0.1, 89.5, 5.0),
        ];
        let summary = summarize(&widths, 1.0);
        assert_eq!(summary.sweet_spot.as_deref(), Some("2"));
        assert_eq!(summary.best_compression.as_deref(), Some("2"));
        assert_eq!(summary.best_accuracy.as_deref(), Some("32"));
        assert_eq!(summary.largest_overfitting, 5.0);
        assert!((summary.average_compression - 28.0 / 3.0).abs() < 1e-9);
    }
}
