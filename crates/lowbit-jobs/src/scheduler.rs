//! What every back-end can do, and what was sent to it.

use crate::files::{read_json, write_json};
use crate::state::Word;
use crate::{JobError, JobFolder, Manifest, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A place that runs tasks.
pub trait Scheduler {
    /// Sends the tasks of `batches`, and adds to `submission` what the scheduler calls them as soon as it has said so.
    ///
    /// # Errors
    /// [`JobError`] in the scheduler's own words.
    fn send(
        &self,
        job: &Job,
        submission: &mut Submission,
        batches: &[Batch],
    ) -> Result<(), JobError>;

    /// Says what the scheduler knows of the job's tasks at the moment.
    fn look(&self, job: &Job) -> Look;

    /// Takes tasks out of the queue or stops them. Their markers have been written.
    ///
    /// # Errors
    /// [`JobError`] in the scheduler's own words.
    fn cancel(&self, job: &Job, tasks: &[u32]) -> Result<(), JobError>;
}

/// A job with its folder and what was sent of it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its folder.
    pub folder: JobFolder,
    /// Its tasks.
    pub manifest: Manifest,
    /// What was sent, the oldest first.
    pub submissions: Vec<Submission>,
}

/// Tasks of one stage that are sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Their stage.
    pub stage: u32,
    /// Their indices, ascending.
    pub tasks: Vec<u32>,
    /// What the scheduler calls the arrays of earlier stages that are under way.
    pub after: Vec<String>,
    /// Whether they want a node of their own.
    pub exclusive: bool,
}

/// Which back-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Slurm.
    Slurm,
    /// The queue of this machine.
    Local,
}

/// What was sent at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// From 1.
    pub number: u32,
    /// Seconds since 1970.
    pub unix: u64,
    /// Where to.
    pub engine: Engine,
    /// Machine that it was sent from; the local queue runs there.
    pub host: String,
    /// With which resources.
    pub resources: Resources,
    /// By which the scheduler finds it again: the beginning of its jobs' names.
    pub token: String,
    /// Its tasks, by what the scheduler calls them.
    pub arrays: Vec<Array>,
}

/// One array of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// What the scheduler calls it.
    pub id: String,
    /// Whether its tasks have numbers of their own at the scheduler.
    pub numbered: bool,
    /// The stage of its tasks.
    pub stage: u32,
    /// What is added to a number at the scheduler to have the task's index.
    pub offset: u32,
    /// Indices of its tasks.
    pub tasks: Vec<u32>,
}

impl Array {
    /// Returns the key of a task at the scheduler.
    #[must_use]
    pub fn key(&self, task: u32) -> Key {
        Key {
            id: self.id.clone(),
            number: self.numbered.then(|| task - self.offset),
        }
    }
}

/// A task at the scheduler: the array's id and the task's number, never the id alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Id of the array, or of a job that is none.
    pub id: String,
    /// Number in the array.
    pub number: Option<u32>,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}_{number}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// A scheduler's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It could not be asked.
    Unasked {
        /// Why.
        why: String,
    },
    /// It was asked.
    Answer {
        /// When, seconds since 1970.
        at: u64,
        /// What it says, by task. A task that is missing was not named.
        seen: BTreeMap<u32, Seen>,
    },
}

/// What a scheduler says of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// In our words.
    pub word: Word,
    /// In its own.
    pub says: String,
    /// Where it runs.
    pub node: Option<String>,
}

const SUBMISSIONS: &str = "submissions.json";

impl Job {
    /// Opens a job.
    ///
    /// # Errors
    /// [`JobError`] when its manifest cannot be used.
    pub fn open(folder: JobFolder) -> Result<Self, JobError> {
        let manifest = Manifest::load(&folder.manifest())?;
        let submissions = read_json(&folder.file(SUBMISSIONS)).unwrap_or_default();
        Ok(Self {
            folder,
            manifest,
            submissions,
        })
    }

    /// Writes what was sent.
    pub(crate) fn save(&self) -> Result<(), JobError> {
        write_json(&self.folder.file(SUBMISSIONS), &self.submissions)
    }

    /// Returns the last submission and array that hold a task.
    #[must_use]
    pub fn sent(&self, task: u32) -> Option<(&Submission, &Array)> {
        self.submissions.iter().rev().find_map(|submission| {
            let array = submission
                .arrays
                .iter()
                .find(|array| array.tasks.contains(&task))?;
            Some((submission, array))
        })
    }

    /// Returns the last submission and array of every task at once.
    #[must_use]
    pub fn all_sent(&self) -> BTreeMap<u32, (&Submission, &Array)> {
        let arrays = self.submissions.iter().flat_map(|submission| {
            submission
                .arrays
                .iter()
                .map(move |array| (submission, array))
        });
        arrays
            .flat_map(|(submission, array)| {
                array
                    .tasks
                    .iter()
                    .map(move |&task| (task, (submission, array)))
            })
            .collect()
    }

    /// Returns the tasks whose last submission went to `engine`.
    #[must_use]
    pub fn sent_to(&self, engine: Engine) -> BTreeMap<u32, (&Submission, &Array)> {
        let mut sent = self.all_sent();
        sent.retain(|_, (submission, _)| submission.engine == engine);
        sent
    }
}
