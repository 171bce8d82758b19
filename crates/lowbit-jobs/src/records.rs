//! What a task writes about itself. Each file is written by one process at a time, whole or not at all.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A task's attempt began: `started.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// From 1, within a submission.
    pub attempt: u32,
    /// Attempts in a row, before this one, that came to no new checkpoint.
    pub idle: u32,
    /// Checkpoints that had been written when it began.
    pub checkpoints: u64,
    /// Machine.
    pub host: String,
    /// The wrapper's process.
    pub pid: u32,
    /// What the scheduler calls the job, such as `12_3`.
    pub job: Option<String>,
    /// Its log.
    pub log: Option<String>,
    /// Seconds since 1970.
    pub unix: u64,
    /// Why it stopped to go on later; none while it runs.
    pub interrupted: Option<Interruption>,
}

/// Why an attempt stopped before the task's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// Its time was up.
    TimeLimit,
    /// The scheduler or somebody else asked it to stop.
    Asked,
    /// Its process was killed.
    Killed,
}

/// How far a task is: `progress.json`, written by the experiment after each checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Checkpoints that all attempts together have written.
    pub checkpoints: u64,
    /// Epoch or round, from 1.
    pub step: u64,
    /// Of so many.
    pub steps: u64,
    /// `epoch` or `round`.
    pub unit: String,
    /// Test accuracy, share of 1.
    pub accuracy: Option<f64>,
    /// Seconds since 1970.
    pub unix: u64,
}

/// How a task ended: `outcome.json`. Nothing else makes a task done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// In which way.
    pub end: End,
    /// In one line, where there is more to say.
    pub reason: Option<String>,
    /// Exit code of the experiment.
    pub exit_code: Option<i32>,
    /// Attempts that it took; 0 if it never began.
    pub attempts: u32,
    /// Seconds of the last attempt.
    pub seconds: u64,
    /// Machine.
    pub host: String,
    /// What the scheduler calls the job.
    pub job: Option<String>,
    /// Seconds since 1970.
    pub unix: u64,
    /// How far it came.
    pub progress: Option<Progress>,
}

/// A file without which a task that ended well is not done any more: `made.json` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its path below the folder of the results.
    pub path: PathBuf,
    /// Its bytes; none where others may write it again.
    pub bytes: Option<u64>,
}

/// In which way a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The experiment ended well.
    Done,
    /// The experiment failed.
    Failed,
    /// Its time was up too often, or before its first checkpoint.
    TimedOut,
    /// It was asked to stop too often.
    Preempted,
    /// `lowbit cancel`, or the scheduler's own command.
    Cancelled,
}
