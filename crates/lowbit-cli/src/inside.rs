//! What an experiment tells the task that it runs in, if it runs in one.

use crate::failure::Failure;
use crate::output::{complain, tell};
use lowbit_jobs::records::Made;
use lowbit_jobs::task::{GO_ON_LATER, Inside};
use lowbit_lab::experiments::sweep::Finished;
use lowbit_lab::records::EpochRecord;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn task() -> Option<&'static Inside> {
    static TASK: OnceLock<Option<Inside>> = OnceLock::new();
    TASK.get_or_init(Inside::here).as_ref()
}

/// From here on the process stops at checkpoints if it is the experiment of a task.
pub(crate) fn begin() {
    let _ = task();
}

/// Returns whether the process is the experiment of a task.
pub(crate) fn is_here() -> bool {
    task().is_some()
}

/// Says that an epoch is done and its checkpoint written. Ends the process here if the task must stop: what is on the disk
/// is all that it needs to go on.
pub(crate) fn epoch_done(record: &EpochRecord, epochs: usize) {
    let accuracy = record.watched.score().accuracy;
    checkpoint("epoch", record.epoch, epochs, accuracy);
}

/// Says that a checkpoint is written at a step of an experiment.
pub(crate) fn checkpoint(unit: &str, step: usize, steps: usize, accuracy: f64) {
    let Some(task) = task() else { return };
    match task.checkpoint(unit, step as u64, steps as u64, Some(accuracy)) {
        Ok(false) => {}
        Ok(true) => {
            tell(&format!(
                "stopped at a checkpoint, {unit} {step} of {steps}"
            ));
            std::process::exit(GO_ON_LATER.into());
        }
        Err(error) => {
            end(&Failure::Run(error.to_string()));
            std::process::exit(1);
        }
    }
}

/// Says which files of the runs in `out` make the task done.
pub(crate) fn made(runs: &[Finished], out: &Path) -> Result<(), Failure> {
    let Some(task) = task() else { return Ok(()) };
    let below = |(path, bytes): (PathBuf, Option<u64>)| Made {
        path: path.strip_prefix(out).map(Path::to_owned).unwrap_or(path),
        bytes,
    };
    let files: Vec<Made> = runs.iter().flat_map(Finished::files).map(below).collect();
    Ok(task.made(&files)?)
}

/// Says why the command ends, to the task that it runs in as well.
pub(crate) fn end(failure: &Failure) {
    if let (Some(task), Failure::Input(line) | Failure::Run(line)) = (task(), failure) {
        task.failed(line);
    }
    complain(failure);
}
