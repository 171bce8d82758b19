//! One row per width, and what the rows come to.

use super::runs::Run;
use super::series::Kind;
use crate::experiments::learning::Learning;
use crate::experiments::sweep::{CompressionMetrics, RunResults};
use crate::statistics::{Difference, mean_interval};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One width over its runs (seeds).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WidthRow {
    /// Bits per weight.
    pub bit_width: u8,
    /// The width, and what is not 8 bits wide besides: `1 (edges 1)`.
    pub label: String,
    /// Number of runs.
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
    /// Test accuracy − that of 32 bits, points: the mean over the seeds that both have, or the difference of the means where they
    /// share none; none without a 32-bit run.
    #[serde(rename = "accuracy_delta_points", alias = "accuracy_delta")]
    pub accuracy_delta: Option<f64>,
    /// Its 95 % interval over two or more seeds that both have (Student's t, paired).
    #[serde(
        rename = "accuracy_delta_points_interval",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub accuracy_delta_interval: Option<[f64; 2]>,
    /// Images per second at batch 64 on one thread.
    pub img_per_s: f64,
    /// How much faster than FP32.
    pub speedup: f64,
    /// Mean over runs of the seconds of training.
    pub training_time_seconds: f64,
    /// Whether training learned something, in the worst of the runs.
    #[serde(default)]
    pub learning: Learning,
    /// Whether it began with the trained weights of a wider row: then it was trained for longer than its epochs.
    #[serde(default)]
    pub warm_started: bool,
    /// Folder of the newest run.
    pub folder: PathBuf,
}

/// What must be said of rows of which some were trained for longer than others.
pub const UNEQUAL: &str = "rows that begin with a wider one's weights were trained for longer than it: what they differ in is not bits \
     alone";

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
    /// Why there is no sweet spot, and what to try, where the 32-bit model did not learn.
    #[serde(default)]
    pub no_verdict: Option<String>,
    /// Rows whose training did not learn.
    #[serde(default)]
    pub not_learned: Vec<String>,
    /// What a reader of the rows must know, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Mean over the runs that know; not a number if none does.
pub(super) fn mean(runs: &[&Run], of: impl Fn(&RunResults) -> Option<f64>) -> f64 {
    let known: Vec<f64> = runs.iter().filter_map(|run| of(&run.results)).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

/// Without what floating-point sums leave: equal accuracies differ by nothing.
fn clean(points: f64) -> f64 {
    (1e9 * points).round() / 1e9 + 0.0
}

fn percent(run: &Run) -> f64 {
    100.0 * run.results.final_test_accuracy
}

/// The mean accuracy of each seed, percent.
fn by_seed(runs: &[&Run]) -> BTreeMap<u64, f64> {
    let mut all: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for run in runs {
        all.entry(run.results.seed).or_default().push(percent(run));
    }
    let mean = |of: Vec<f64>| of.iter().sum::<f64>() / of.len() as f64;
    all.into_iter().map(|(seed, of)| (seed, mean(of))).collect()
}

/// What a width loses against 32 bits, in points, with the interval that its seeds give.
fn delta(runs: &[&Run], baseline: &[&Run]) -> (f64, Option<[f64; 2]>) {
    let (own, others) = (by_seed(runs), by_seed(baseline));
    let of_seed = |(seed, accuracy): (&u64, &f64)| Some(clean(accuracy - others.get(seed)?));
    let pairs: Vec<f64> = own.iter().filter_map(of_seed).collect();
    // Results of older versions do not say their seed.
    let mut all = runs.iter().chain(baseline);
    if pairs.is_empty() || all.any(|run| run.results.decisive.is_none()) {
        let mean = |runs: &[&Run]| mean(runs, |run| Some(100.0 * run.final_test_accuracy));
        return (clean(mean(runs) - mean(baseline)), None);
    }
    let found = mean_interval(&pairs);
    let interval = (pairs.len() > 1).then_some([found.low, found.high].map(clean));
    (clean(found.value), interval)
}

pub(super) fn row(kind: &Kind, runs: &[&Run], baseline: Option<&[&Run]>) -> WidthRow {
    let accuracies: Vec<f64> = runs.iter().map(|run| percent(run)).collect();
    let mut test = mean_interval(&accuracies);
    test.value = clean(test.value);
    let delta = baseline.map(|baseline| delta(runs, baseline));
    let newest = runs.iter().max_by_key(|run| &run.results.timestamp);
    let train = mean(runs, |run| {
        // Of the epoch that the test accuracy is of.
        let kept = match run.chosen_epoch {
            Some(epoch) => run.results_per_round.get(epoch.checked_sub(1)?)?,
            None => run.results_per_round.last()?,
        };
        Some(100.0 * kept.train_accuracy).filter(|train| train.is_finite())
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
        overfitting_gap: clean(train - test.value),
        accuracy_delta: delta.map(|(points, _)| points),
        accuracy_delta_interval: delta
            .and_then(|(_, interval)| interval)
            .filter(|_| kind.bits < 32),
        img_per_s: mean(runs, |run| run.img_per_s),
        speedup: mean(runs, |run| run.speedup),
        training_time_seconds: mean(runs, |run| run.training_time_seconds),
        learning: worst(runs),
        warm_started: kind.is_warm_started(),
        folder: newest.map(|run| run.folder.clone()).unwrap_or_default(),
    }
}

/// What must be said of the runs that rows were made of.
pub(super) fn notes(groups: &[(Kind, Vec<&Run>)]) -> Vec<String> {
    let timed = groups
        .iter()
        .flat_map(|(_, runs)| runs)
        .filter(|run| run.results.img_per_s.is_some());
    let machines: BTreeSet<&str> = timed
        .filter_map(|run| Some(&*run.results.machine.as_ref()?.cpu))
        .collect();
    match machines.len() {
        0 | 1 => vec![],
        _ => {
            let all: Vec<&str> = machines.into_iter().collect();
            vec![format!(
                "speeds are of different processors ({}) and tell nothing side by side",
                all.join("; ")
            )]
        }
    }
}

/// What the seeds leave open of a row that is within the drop in the mean.
fn doubt(row: &WidthRow, max_drop: f64) -> Option<String> {
    let (label, points) = (crate::plural::bits(&row.label), row.accuracy_delta?);
    if row.bit_width == 32 {
        return None;
    }
    match row.accuracy_delta_interval {
        None => Some(format!(
            "{label}: fewer than two seeds in common with 32 bits, so nothing tells how far other trainings would lie"
        )),
        Some([low, high]) if low < -max_drop => Some(format!(
            "{label}: the seeds do not show it yet, {points:+.2} points [{low:+.2}, {high:+.2}]"
        )),
        Some(_) => None,
    }
}

fn worst(runs: &[&Run]) -> Learning {
    let all = runs.iter().filter_map(|run| run.results.learning);
    all.max().unwrap_or_default()
}

fn no_verdict(learning: Learning, is_federated: bool) -> String {
    let epochs = match is_federated {
        true => "--rounds",
        false => "--epochs",
    };
    let (why, attempt) = match learning {
        Learning::Diverged => ("training diverged", "a lower --lr".to_owned()),
        _ => (
            "the 32-bit model is not shown to be better than a guess",
            format!("more {epochs}, another --lr, more images, and look at the labels"),
        ),
    };
    format!("No verdict: {why}; what quantization costs cannot be told. Try {attempt}.")
}

pub(super) fn summarize(
    widths: &[WidthRow],
    max_drop: f64,
    is_federated: bool,
    mut notes: Vec<String>,
) -> Summary {
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
        row.accuracy_delta.is_some_and(|d| d >= -max_drop)
            && row.size_mb.is_finite()
            && row.learning == Learning::Learned
    });
    let failed = |row: &&WidthRow| row.learning != Learning::Learned;
    let no_verdict = widths
        .iter()
        .filter(failed)
        .find(|row| row.bit_width == 32)
        .map(|row| no_verdict(row.learning, is_federated));
    let sweet_spot = close
        .min_by(|a, b| a.size_mb.total_cmp(&b.size_mb))
        .filter(|_| no_verdict.is_none());
    notes.splice(0..0, sweet_spot.and_then(|row| doubt(row, max_drop)));
    Summary {
        best_compression: highest(|row| row.compression_ratio),
        best_accuracy: highest(|row| row.test_accuracy.value),
        average_compression: average(&finite(|row| row.compression_ratio, true)),
        average_overfitting: average(&gaps),
        largest_overfitting: gaps.iter().copied().fold(f64::NAN, f64::max),
        sweet_spot: sweet_spot.map(|row| row.label.clone()),
        max_drop,
        no_verdict,
        not_learned: widths
            .iter()
            .filter(failed)
            .map(|row| row.label.clone())
            .collect(),
        notes,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(widths: &[WidthRow], max_drop: f64) -> Summary {
        summarize(widths, max_drop, false, vec![])
    }

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
            accuracy_delta_interval: None,
            img_per_s: 1.0,
            speedup: 1.0,
            training_time_seconds: 1.0,
            learning: Learning::Learned,
            warm_started: false,
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
        let summary = super::tests::summary(&widths, 1.0);
        assert_eq!(summary.sweet_spot.as_deref(), Some("2"));
        assert_eq!(summary.best_compression.as_deref(), Some("2"));
        assert_eq!(summary.best_accuracy.as_deref(), Some("32"));
        assert_eq!(summary.largest_overfitting, 5.0);
        assert!((summary.average_compression - 28.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_row_just_within_the_drop_counts_and_one_beyond_does_not() {
        let widths = [
            width(32, 1.6, 90.0, 0.0),
            width(8, 0.4, 89.0, 0.0),
            width(4, 0.2, 88.9, 0.0),
        ];
        let of = |drop| summary(&widths, drop).sweet_spot;
        assert_eq!(of(1.0).as_deref(), Some("8"));
        assert_eq!(of(0.5).as_deref(), Some("32"));
        assert_eq!(of(1.2).as_deref(), Some("4"));
        assert_eq!(summary(&widths[1..2], -2.0).sweet_spot, None);
    }

    #[test]
    fn averages_leave_out_what_is_not_known() {
        let mut widths = [
            width(32, 1.6, 90.0, 4.0),
            width(8, 0.4, 89.0, f64::NAN),
            width(4, 0.2, 80.0, 1.0),
        ];
        widths[1].compression_ratio = f64::NAN;
        let summary = super::tests::summary(&widths, 1.0);
        assert_eq!(summary.average_overfitting, 2.5);
        assert_eq!(summary.largest_overfitting, 4.0);
        assert!((summary.average_compression - 8.0).abs() < 1e-9);
        for row in &mut widths {
            row.size_mb = f64::NAN;
            row.compression_ratio = f64::NAN;
        }
        let summary = super::tests::summary(&widths, 1.0);
        assert_eq!((summary.sweet_spot, summary.best_compression), (None, None));
        assert_eq!(summary.best_accuracy.as_deref(), Some("32"));
    }

    #[test]
    fn points_are_named_in_the_singular_and_the_plural() {
        let of = |drop| summary(&[width(32, 1.0, 90.0, 0.0)], drop).allowed();
        assert_eq!(of(1.0), "1 point");
        assert_eq!(of(0.5), "0.5 points");
    }
}
