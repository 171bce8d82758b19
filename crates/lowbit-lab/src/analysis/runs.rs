//! Reading runs back, of this and of older layouts.

use crate::LabError;
use crate::experiments::artifacts::TRAINING_RESULTS as RESULTS;
use crate::experiments::sweep::{CompressionMetrics, RunResults};
use std::path::{Path, PathBuf};

/// Folders below the given one that are searched: `outputs/<b>bit/run_…` and `outputs/<date>/<time>` among others.
const DEPTH: usize = 4;

/// One finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// What it came to.
    pub results: RunResults,
}

/// Every run below a folder.
#[derive(Clone, Debug)]
pub struct Runs {
    /// By seed, and of equal seeds by path.
    pub runs: Vec<Run>,
    /// Files that could not be used, or say what another one says, and why; and runs without their models.
    pub skipped: Vec<String>,
    /// What else lies in the folder, one line each.
    pub beside: Vec<String>,
}

/// Reads every `training_results.json` below `folder`; a broken file is skipped and named, and so is one of a training that has
/// been read already: counted twice it would narrow the intervals. Runs whose models are not there any more count, and are named.
///
/// Runs of older layouts may lack everything but the width and the accuracy; accuracies in percent are taken as such.
///
/// # Errors
/// [`LabError`] when the folder cannot be read or holds no run.
pub fn read(folder: &Path) -> Result<Runs, LabError> {
    let mut files = Vec::new();
    find(folder, DEPTH, &mut files).map_err(|source| LabError::Io {
        path: folder.to_owned(),
        source,
    })?;
    files.sort();
    let (mut runs, mut skipped) = (Vec::<Run>::new(), Vec::new());
    for file in files {
        let folder = file.parent().unwrap_or(folder).to_owned();
        match read_one(&file, &folder) {
            Ok(results) => match runs.iter().find(|run| is_repeated(run, &results)) {
                None => runs.push(Run { folder, results }),
                Some(first) => {
                    let first = first.folder.display();
                    skipped.push(format!("{}: the same training as {first}", file.display()));
                }
            },
            Err(reason) => skipped.push(format!("{}: {reason}", file.display())),
        }
    }
    if runs.is_empty() {
        return Err(LabError::Mismatch(format!(
            "{}: no finished run of a sweep; run `lowbit sweep` first{}",
            folder.display(),
            skipped
                .first()
                .map_or(String::new(), |first| format!(" (skipped {first})"))
        )));
    }
    skipped.extend(without_models(&runs));
    runs.sort_by_key(|run| run.results.seed);
    Ok(Runs {
        runs,
        skipped,
        beside: vec![],
    })
}

/// One line about the runs whose models are not as they were written: results may have been copied without them, or a disk was full.
fn without_models(runs: &[Run]) -> Option<String> {
    let lost = |run: &Run| Some((run.folder.clone(), run.results.lost(&run.folder)?));
    let mut all = runs.iter().filter_map(lost);
    let (folder, what) = all.next()?;
    let more = match all.count() {
        0 => String::new(),
        more => format!(" (and so in {more} more)"),
    };
    Some(format!(
        "{}: {what}{more}: the figures are those of the model that was there; the same sweep makes it again",
        folder.display()
    ))
}

/// Whether `results` are those of a run that is known: all that decides them is the same, the seed too.
fn is_repeated(run: &Run, results: &RunResults) -> bool {
    results.decisive.is_some()
        && run.results.decisive == results.decisive
        && run.results.bit_width == results.bit_width
}

fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            // A folder that cannot be read hides its own runs alone.
            let _ = find(&path, depth - 1, files);
        } else if path.file_name().is_some_and(|name| name == RESULTS)
            // `lowbit train` writes a file of the same name and another kind.
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

fn read_one(file: &Path, folder: &Path) -> Result<RunResults, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut results: RunResults =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if !(1..=32).contains(&results.bit_width) {
        return Err(format!(
            "bit_width is {}, expected 1 to 32",
            results.bit_width
        ));
    }
    if !results.final_test_accuracy.is_finite() {
        return Err("final_test_accuracy is not a number".into());
    }
    if results.compression_metrics.is_none() {
        results.compression_metrics = std::fs::read(folder.join("compression_metrics.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<CompressionMetrics>(&bytes).ok());
    }
    let rounds = &results.results_per_round;
    let shares = rounds.iter().flat_map(|round| {
        [
            round.train_accuracy,
            round.test_accuracy,
            round.watched_accuracy(),
        ]
    });
    if shares
        .chain([results.final_test_accuracy])
        .any(|share| share > 1.0)
    {
        results.final_test_accuracy /= 100.0;
        for round in &mut results.results_per_round {
            round.train_accuracy /= 100.0;
            round.test_accuracy /= 100.0;
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, text: &str) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(RESULTS), text).unwrap();
    }

    #[test]
    fn older_layouts_are_read_and_their_percentages_understood() {
        let outputs = tempfile::tempdir().unwrap();
        let old = outputs.path().join("2025-03-01/10-22-33");
        write(
            &old,
            r#"{"bit_width": 4, "num_rounds": 2, "fraction_train": 0.5, "local_epochs": 1, "training_time_seconds": 12.5,
                "final_test_accuracy": 81.5, "final_test_loss": 0.6,
                "results_per_round": [{"round": 1, "test_accuracy": 70.0}, {"round": 2, "test_accuracy": 81.5}],
                "something_else": [1, 2]}"#,
        );
        let metrics = r#"{"bit_width": 4, "original_size_mb": 1.7, "compressed_size_mb": 0.2, "compression_ratio": 8.5,
            "size_reduction_percent": 88.0}"#;
        std::fs::write(old.join("compression_metrics.json"), metrics).unwrap();
        let found = read(outputs.path()).unwrap();
        let run = &found.runs[0].results;
        assert_eq!((run.bit_width, run.final_test_accuracy), (4, 0.815));
        assert_eq!(run.results_per_round[0].test_accuracy, 0.7);
        assert!(run.results_per_round[0].train_accuracy.is_nan());
        assert_eq!(run.compression_metrics.unwrap().compression_ratio, 8.5);
        assert_eq!((run.img_per_s, run.machine.as_ref()), (None, None));
    }

    #[test]
    fn a_training_counts_once_and_runs_come_by_seed() {
        let outputs = tempfile::tempdir().unwrap();
        let of = |seed: u64| {
            format!(
                r#"{{"bit_width": 8, "final_test_accuracy": 0.9, "seed": {seed}, "decisive": {{"seed": "{seed}"}},
                    "results_per_round": [{{"round": 1, "test_loss": null, "test_accuracy": 0.9}}]}}"#
            )
        };
        for (name, seed) in [("8bit/run_a", 2), ("8bit/run_b", 1), ("copy/8bit/run_a", 2)] {
            write(&outputs.path().join(name), &of(seed));
        }
        let found = read(outputs.path()).unwrap();
        let seeds: Vec<u64> = found.runs.iter().map(|run| run.results.seed).collect();
        assert_eq!(seeds, [1, 2]);
        assert!(
            found.skipped[0].contains("the same training as"),
            "{:?}",
            found.skipped
        );
        // A loss that was none is null in JSON.
        assert!(
            found.runs[0].results.results_per_round[0]
                .test_loss
                .is_nan()
        );
    }

    #[test]
    fn a_run_whose_model_is_gone_or_cut_off_counts_and_is_named() {
        let outputs = tempfile::tempdir().unwrap();
        let run = outputs.path().join("8bit/run_a");
        write(
            &run,
            r#"{"bit_width": 8, "final_test_accuracy": 0.9, "decisive": {"seed": "1"}, "compression_metrics": {
                "bit_width": 8, "original_size_mb": 4e-6, "compressed_size_mb": 1e-6, "compression_ratio": 4,
                "size_reduction_percent": 75}}"#,
        );
        let skipped = || read(outputs.path()).unwrap().skipped.concat();
        assert!(skipped().contains("model_fp32.safetensors is not there any more"));
        std::fs::write(run.join("model_fp32.safetensors"), "1234").unwrap();
        std::fs::write(run.join("model_8bit.safetensors"), "").unwrap();
        assert!(skipped().contains("model_8bit.safetensors has 0 bytes instead of 1"));
        std::fs::write(run.join("model_8bit.safetensors"), "1").unwrap();
        assert_eq!(skipped(), "");
        assert_eq!(read(outputs.path()).unwrap().runs.len(), 1);
    }

    #[test]
    fn a_broken_file_is_skipped_by_name_and_an_empty_folder_refused() {
        let outputs = tempfile::tempdir().unwrap();
        let error = read(outputs.path()).unwrap_err().to_string();
        assert!(error.contains("lowbit sweep"), "{error}");
        write(&outputs.path().join("4bit/run_1"), "{ half");
        let error = read(outputs.path()).unwrap_err().to_string();
        assert!(
            error.contains("run_1") && error.contains("skipped"),
            "{error}"
        );
        write(
            &outputs.path().join("8bit/run_2"),
            r#"{"bit_width": 8, "final_test_accuracy": 0.9}"#,
        );
        let found = read(outputs.path()).unwrap();
        assert_eq!((found.runs.len(), found.skipped.len()), (1, 1));
        write(
            &outputs.path().join("8bit/run_3"),
            r#"{"bit_width": 80, "final_test_accuracy": 0.9}"#,
        );
        let found = read(outputs.path()).unwrap();
        assert!(
            found.skipped[1].contains("bit_width is 80"),
            "{:?}",
            found.skipped
        );
    }
}
