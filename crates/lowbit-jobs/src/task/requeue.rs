//! How a task that must go on later gets back into the queue, and whether it should.

use std::process::{Command, Stdio};

/// Where the wrapper runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a Slurm job of this name, such as `12_3`.
    Slurm(String),
    /// In the local queue, under this name.
    Queue(String),
    /// By hand.
    Hand,
}

/// Environment variable with the local queue's name for the task.
pub(crate) const QUEUE: &str = "LOWBIT_QUEUE_TASK";

impl Place {
    pub(super) fn here() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(name) = variable(QUEUE) {
            return Self::Queue(name);
        }
        match (
            variable("SLURM_ARRAY_JOB_ID"),
            variable("SLURM_ARRAY_TASK_ID"),
            variable("SLURM_JOB_ID"),
        ) {
            (Some(array), Some(task), _) => Self::Slurm(format!("{array}_{task}")),
            (_, _, Some(job)) => Self::Slurm(job),
            _ => Self::Hand,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Slurm(name) | Self::Queue(name) => Some(name),
            Self::Hand => None,
        }
    }

    pub(super) fn title(&self) -> String {
        match self {
            Self::Slurm(name) => format!("Slurm job {name}"),
            Self::Queue(name) => format!("local queue {name}"),
            Self::Hand => "run by hand".into(),
        }
    }

    /// Returns whether Slurm is ending this job already: cancelled or requeued, it knows why, and what comes next is its
    /// business. (To both `scontrol` says COMPLETING; a task that requeued itself after `scancel` would come back for ever.)
    pub(super) fn is_ending(&self) -> bool {
        let Self::Slurm(name) = self else {
            return false;
        };
        let said = Command::new("scontrol")
            .args(["--oneliner", "show", "job", name])
            .stdin(Stdio::null())
            .output();
        said.is_ok_and(|said| {
            let text = String::from_utf8_lossy(&said.stdout);
            text.contains("JobState=") && !text.contains("JobState=RUNNING")
        })
    }

    /// Puts the task back into the queue. Slurm must be told; the local queue understands the exit code.
    ///
    /// # Errors
    /// Slurm's words.
    pub(super) fn requeue(&self) -> Result<(), String> {
        let Self::Slurm(name) = self else {
            return Ok(());
        };
        let said = Command::new("scontrol")
            .args(["requeue", name])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run scontrol: {error}"))?;
        if said.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&said.stderr)
            .trim()
            .replace('\n', "; ");
        // Slurm itself may have put it back already.
        if words.contains("Job is pending") || words.contains("already pending") {
            return Ok(());
        }
        Err(words)
    }
}
