//! Reading the runs of a sweep back: one row per width, and what follows from them.

use crate::LabError;
use crate::experiments::sweep::RunResults;
use crate::statistics::{Difference, mean_interval};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders below the given one that are searched.
const DEPTH: usize = 4;

/// One width over its runs (seeds).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WidthRow {
    /// Bits per weight.
    pub bit_width: u8,
    /// Runs.
    pub runs: usize,
    /// The packed file, 10⁶ bytes.
    pub size_mb: f64,
    /// FP32 bytes over packed bytes.
    pub compression_ratio: f64,
    /// Bytes saved, percent.
    pub size_reduction_percent: f64,
    /// Mean over runs, percent, with its 95 % interval (Student's t).
    pub test_accuracy: Difference,
    /// Mean over runs, percent.
    pub train_accuracy: f64,
    /// Train − test, points.
    pub overfitting_gap: f64,
    /// Test accuracy − that of 32 bits, points; none without a 32-bit run.
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
    /// Width with the smallest file.
    pub best_compression: u8,
    /// Width with the highest test accuracy.
    pub best_accuracy: u8,
    /// Mean over widths below 32 bits.
    pub average_compression: f64,
    /// Mean over widths, points.
    pub average_overfitting: f64,
    /// Largest of all widths, points.
    pub largest_overfitting: f64,
    /// The smallest model within `max_drop` points of 32 bits; none without a 32-bit run.
    pub sweet_spot: Option<u8>,
    /// Points that the sweet spot may lose.
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

/// Reads every `training_results.json` below `folder`.
///
/// # Errors
/// [`LabError`] when the folder cannot be read or holds no run; a broken file is skipped and named.
pub fn analyze(folder: &Path, max_drop: f64) -> Result<Analysis, LabError> {
    let mut files = Vec::new();
    find(folder, DEPTH, &mut files).map_err(|source| LabError::Io {
        path: folder.to_owned(),
        source,
    })?;
    files.sort();
    let mut skipped = Vec::new();
    let mut by_width: BTreeMap<u8, Vec<(PathBuf, RunResults)>> = BTreeMap::new();
    for file in files {
        let parsed = std::fs::read(&file)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        match parsed {
            Ok(results) => {
                let results: RunResults = results;
                let folder = file.parent().unwrap_or(folder).to_owned();
                by_width
                    .entry(results.bit_width)
                    .or_default()
                    .push((folder, results));
            }
            Err(reason) => skipped.push(format!("{}: {reason}", file.display())),
        }
    }
    if by_width.is_empty() {
        return Err(LabError::Mismatch(format!(
            "{}: no finished run of a sweep; run `lowbit sweep` first{}",
            folder.display(),
            skipped
                .first()
                .map_or(String::new(), |first| format!(" (skipped {first})"))
        )));
    }
    let baseline = by_width
        .get(&32)
        .map(|runs| mean(runs, |run| 100.0 * run.final_test_accuracy));
    let widths: Vec<WidthRow> = by_width
        .iter()
        .rev()
        .map(|(&bits, runs)| row(bits, runs, baseline))
        .collect();
    Ok(Analysis {
        summary: summarize(&widths, max_drop),
        widths,
        skipped,
    })
}

fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            find(&path, depth - 1, files)?;
        } else if path
            .file_name()
            .is_some_and(|name| name == "training_results.json")
            && path
                .parent()
                .and_then(Path::file_name)
                .is_some_and(|name| name != "train")
        {
            files.push(path);
        }
    }
    Ok(())
}

fn mean(runs: &[(PathBuf, RunResults)], of: impl Fn(&RunResults) -> f64) -> f64 {
    runs.iter().map(|(_, run)| of(run)).sum::<f64>() / runs.len() as f64
}

fn row(bits: u8, runs: &[(PathBuf, RunResults)], baseline: Option<f64>) -> WidthRow {
    let accuracies: Vec<f64> = runs
        .iter()
        .map(|(_, run)| 100.0 * run.final_test_accuracy)
        .collect();
    let test = mean_interval(&accuracies);
    let train = mean(runs, |run| {
        100.0
            * run
                .results_per_round
                .last()
                .map_or(0.0, |round| round.train_accuracy)
    });
    WidthRow {
        bit_width: bits,
        runs: runs.len(),
        size_mb: mean(runs, |run| run.compression_metrics.compressed_size_mb),
        compression_ratio: mean(runs, |run| run.compression_metrics.compression_ratio),
        size_reduction_percent: mean(runs, |run| run.compression_metrics.size_reduction_percent),
        test_accuracy: test,
        train_accuracy: train,
        overfitting_gap: train - test.value,
        accuracy_delta: baseline.map(|baseline| test.value - baseline),
        img_per_s: mean(runs, |run| run.img_per_s),
        speedup: mean(runs, |run| run.speedup),
        training_time_seconds: mean(runs, |run| run.training_time_seconds),
        folder: runs
            .last()
            .map(|(folder, _)| folder.clone())
            .unwrap_or_default(),
    }
}

fn summarize(widths: &[WidthRow], max_drop: f64) -> Summary {
    let by = |key: &dyn Fn(&WidthRow) -> f64| {
        widths
            .iter()
            .max_by(|a, b| key(a).total_cmp(&key(b)))
            .map_or(0, |row| row.bit_width)
    };
    let packed: Vec<_> = widths.iter().filter(|row| row.bit_width < 32).collect();
    let average = |values: &mut dyn Iterator<Item = f64>, count: usize| {
        values.sum::<f64>() / count.max(1) as f64
    };
    let gap = |row: &WidthRow| row.overfitting_gap;
    let close = widths
        .iter()
        .filter(|row| row.accuracy_delta.is_some_and(|d| d >= -max_drop));
    Summary {
        best_compression: by(&|row| row.compression_ratio),
        best_accuracy: by(&|row| row.test_accuracy.value),
        average_compression: average(
            &mut packed.iter().map(|row| row.compression_ratio),
            packed.len(),
        ),
        average_overfitting: average(&mut widths.iter().map(gap), widths.len()),
        largest_overfitting: widths.iter().map(gap).fold(f64::NEG_INFINITY, f64::max),
        sweet_spot: close
            .min_by(|a, b| a.size_mb.total_cmp(&b.size_mb))
            .map(|row| row.bit_width),
        max_drop,
    }
}

impl Analysis {
    /// The rows as comma-separated values with a header.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "bit_width,runs,size_mb,compression_ratio,size_reduction_percent,test_accuracy,test_accuracy_low,\
             test_accuracy_high,train_accuracy,overfitting_gap,accuracy_delta,img_per_s,speedup,training_time_seconds,folder\n",
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
        assert_eq!(summary.sweet_spot, Some(2));
        assert_eq!((summary.best_compression, summary.best_accuracy), (2, 32));
        assert_eq!(summary.largest_overfitting, 5.0);
        assert!((summary.average_compression - 28.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_broken_file_is_skipped_by_name_and_an_empty_folder_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("4bit/run_1");
        std::fs::create_dir_all(&run).unwrap();
        let error = analyze(folder.path(), 1.0).unwrap_err().to_string();
        assert!(error.contains("lowbit sweep"), "{error}");
        std::fs::write(run.join("training_results.json"), "{ half").unwrap();
        let error = analyze(folder.path(), 1.0).unwrap_err().to_string();
        assert!(
            error.contains("run_1") && error.contains("skipped"),
            "{error}"
        );
    }
}
