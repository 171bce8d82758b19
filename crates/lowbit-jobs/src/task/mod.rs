//! A task: the wrapper that runs it, and what the experiment inside tells the wrapper.

mod attempt;
mod requeue;
mod run;

pub(crate) use requeue::QUEUE;
pub use run::{Options, run};

use crate::JobError;
use crate::files::{unix_now, write_atomically, write_json};
use crate::folder::TaskFolder;
use crate::records::{Made, Progress};
use signal_hook::consts::{SIGTERM, SIGUSR1, SIGUSR2};
use std::path::PathBuf;
use std::sync::Arc;

/// Exit code of an experiment or a task that stopped at a checkpoint to go on later.
pub const GO_ON_LATER: u8 = 75;

/// Environment variable with the task's own folder, for the experiment inside.
const FOLDER: &str = "LOWBIT_TASK";

/// The experiment's side of a task.
#[derive(Clone, Debug)]
pub struct Inside {
    folder: TaskFolder,
}

impl Inside {
    /// Returns the task that this process is the experiment of, if it is one. To be called when the process begins: from then on
    /// it stops at checkpoints, and no longer at once, when it is asked to end.
    #[must_use]
    pub fn here() -> Option<Self> {
        let path = PathBuf::from(std::env::var_os(FOLDER)?);
        let folder = TaskFolder::new(path);
        // Slurm sends SIGTERM to every process of a job. The wrapper decides what it means: this one goes on to its next
        // checkpoint. Where the handler cannot be set, the signal ends it, and it goes on from its last checkpoint.
        for signal in [SIGTERM, SIGUSR1, SIGUSR2] {
            let _ = signal_hook::flag::register(signal, Arc::default());
        }
        Some(Self { folder })
    }

    /// Says that a checkpoint has been written at `step` of `steps`, and returns whether the experiment is to stop here.
    ///
    /// # Errors
    /// [`JobError::Write`], such as on a full disk.
    pub fn checkpoint(
        &self,
        unit: &str,
        step: u64,
        steps: u64,
        accuracy: Option<f64>,
    ) -> Result<bool, JobError> {
        let before = self.folder.read_progress().unwrap_or_default();
        self.folder.write_progress(&Progress {
            checkpoints: before.checkpoints + 1,
            step,
            steps,
            unit: unit.into(),
            accuracy: accuracy.filter(|share| share.is_finite()),
            unix: unix_now(),
        })?;
        Ok(self.folder.stop().exists())
    }

    /// Says without which files the task is not done any more.
    ///
    /// # Errors
    /// [`JobError::Write`], such as on a full disk.
    pub fn made(&self, files: &[Made]) -> Result<(), JobError> {
        write_json(&self.folder.made(), &files)
    }

    /// Says why the experiment failed.
    pub fn failed(&self, line: &str) {
        // The log has it as well.
        let _ = write_atomically(&self.folder.error(), line.as_bytes());
    }
}
