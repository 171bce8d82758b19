//! Slurm, through its own commands: sbatch, squeue, scontrol, sacct, scancel.

mod call;
mod query;
mod reply;
mod script;

pub use query::Queries;
pub use script::script;

use crate::JobError;
use crate::files::{on_path, write_atomically};
use crate::scheduler::{Array, Batch, Job, Look, Scheduler, Submission};
use call::call;
use std::collections::BTreeMap;
use std::time::Duration;

/// A Slurm cluster.
#[derive(Clone, Debug)]
pub struct Slurm {
    queries: Queries,
}

/// How often an sbatch call is tried that did not reach the controller.
const TRIES: u32 = 5;

impl Slurm {
    /// Returns the cluster that this machine submits to.
    ///
    /// # Errors
    /// [`JobError::NoScheduler`] when `sbatch` is not on the PATH.
    pub fn here() -> Result<Self, JobError> {
        if !Self::is_here() {
            return Err(JobError::NoScheduler {
                tool: "sbatch".into(),
            });
        }
        Ok(Self {
            queries: Queries::of_user(),
        })
    }

    /// Returns whether `sbatch` is on the PATH.
    #[must_use]
    pub fn is_here() -> bool {
        on_path("sbatch").is_some()
    }

    /// Returns Slurm with another place for what its queries answered.
    #[must_use]
    pub fn with_queries(queries: Queries) -> Self {
        Self { queries }
    }

    /// Calls sbatch. A call that did not reach the controller may have been heard all the same: before it is repeated the
    /// queue is asked for the job's name.
    fn sbatch(&self, name: &str, script: &str) -> Result<String, JobError> {
        let mut wait = Duration::from_millis(500);
        for tried in 1.. {
            let said = match call("sbatch", &["--parsable"], Some(script)) {
                Ok(id) => return Ok(id.split(';').next().unwrap_or_default().trim().to_owned()),
                Err(said) => said,
            };
            if tried >= TRIES || !unheard(&said) {
                return Err(JobError::Refused {
                    tool: "sbatch".into(),
                    words: said,
                });
            }
            // Jitter from the process, so that many submitters do not come back at once.
            std::thread::sleep(wait + Duration::from_millis(u64::from(std::process::id() % 400)));
            wait *= 2;
            if let Some(id) = find(name) {
                return Ok(id);
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Submits one task through a site's own wrapper, a shell line that sees CMD, NAME, LOG, CPUS, MEM, TIME and GPUS.
    fn through_template(
        &self,
        job: &Job,
        submission: &Submission,
        template: &str,
        task: u32,
    ) -> Result<Array, JobError> {
        let resources = &submission.resources;
        let name = format!("{}.t{task}", submission.token);
        let log = job.folder.logs().join(format!(
            "{}_{}_{task}.out",
            job.manifest.header.experiment, submission.number
        ));
        let command = script::command(job, resources, &task.to_string(), Some(&log));
        let said = call::shell(
            template,
            &[
                ("CMD", command),
                ("NAME", name.clone()),
                ("LOG", log.display().to_string()),
                ("CPUS", resources.cpus.to_string()),
                ("MEM", format!("{}M", resources.mem_mib)),
                (
                    "TIME",
                    resources
                        .time_s
                        .map_or(String::new(), crate::resources::show_time),
                ),
                ("GPUS", resources.gpus.to_string()),
            ],
        )
        .map_err(|words| JobError::Refused {
            tool: "--template".into(),
            words,
        })?;
        // "Submitted batch job 123": the last number on the first line that has one; else its name must do.
        let number = said.lines().find_map(|line| {
            let mut words = line.split(|c: char| !c.is_ascii_digit());
            words.rfind(|word| !word.is_empty()).map(str::to_owned)
        });
        Ok(Array {
            id: number.unwrap_or(name),
            numbered: false,
            stage: job.manifest.task(task).map_or(0, |task| task.stage),
            offset: 0,
            tasks: vec![task],
        })
    }
}

/// Whether sbatch did not reach the controller, as opposed to having been refused.
fn unheard(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    [
        "socket timed out",
        "unable to contact",
        "zero bytes were transmitted",
        "connection refused",
        "temporarily unable",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// Returns the array id of a job by its name.
fn find(name: &str) -> Option<String> {
    let said = call(
        "squeue",
        &[
            "--noheader",
            "--me",
            "--states=all",
            "--name",
            name,
            "--format=%F",
        ],
        None,
    )
    .ok()?;
    said.lines()
        .next()
        .map(|id| id.trim().to_owned())
        .filter(|id| !id.is_empty())
}

impl Scheduler for Slurm {
    fn send(
        &self,
        job: &Job,
        submission: &mut Submission,
        batches: &[Batch],
    ) -> Result<(), JobError> {
        if let Some(template) = submission.resources.template.clone() {
            // A wrapper knows no dependencies: later stages are sent by the next `lowbit submit`.
            for &task in batches.first().map_or(&[][..], |batch| &batch.tasks) {
                let array = self.through_template(job, submission, &template, task)?;
                record(job, submission, array)?;
            }
            return Ok(());
        }
        let limit = self.queries.max_array_size();
        let mut before: Vec<String> = Vec::new();
        for batch in batches {
            let mut after = batch.after.clone();
            after.append(&mut before.clone());
            let mut sent = Vec::new();
            for (offset, tasks) in split(&batch.tasks, limit) {
                let name = format!("{}.{}.{offset}", submission.token, batch.stage);
                let part = Batch {
                    tasks,
                    after: after.clone(),
                    ..batch.clone()
                };
                let text = script(job, submission, &part, &name, offset);
                let file = job.folder.file(&format!(
                    "submit_{}_{}_{offset}.sh",
                    submission.number, batch.stage
                ));
                write_atomically(&file, text.as_bytes())?;
                let id = match known(submission, batch.stage, offset) {
                    Some(id) => id,
                    None => self.sbatch(&name, &text)?,
                };
                sent.push(id.clone());
                let array = Array {
                    id,
                    numbered: true,
                    stage: batch.stage,
                    offset,
                    tasks: part.tasks,
                };
                record(job, submission, array)?;
            }
            before.append(&mut sent);
        }
        Ok(())
    }

    fn look(&self, job: &Job) -> Look {
        self.queries.look(job)
    }

    fn cancel(&self, job: &Job, tasks: &[u32]) -> Result<(), JobError> {
        let keys: Vec<String> = tasks
            .iter()
            .filter_map(|&task| job.sent(task).map(|(_, array)| array.key(task).to_string()))
            .collect();
        for some in keys.chunks(200) {
            let words: Vec<&str> = some.iter().map(String::as_str).collect();
            if let Err(said) = call("scancel", &words, None)
                && !said.contains("already completing or completed")
                && !said.contains("Invalid job id")
            {
                return Err(JobError::Refused {
                    tool: "scancel".into(),
                    words: said,
                });
            }
        }
        Ok(())
    }
}

fn known(submission: &Submission, stage: u32, offset: u32) -> Option<String> {
    let mut arrays = submission.arrays.iter();
    let array = arrays.find(|array| array.stage == stage && array.offset == offset)?;
    Some(array.id.clone())
}

/// Writes down what the scheduler calls an array, at once: a killed `submit` must not send it twice.
fn record(job: &Job, submission: &mut Submission, array: Array) -> Result<(), JobError> {
    submission.arrays.retain(|other| {
        (other.stage, other.offset) != (array.stage, array.offset) || !other.numbered
    });
    submission.arrays.push(array);
    let mut job = job.clone();
    job.submissions
        .retain(|other| other.number != submission.number);
    job.submissions.push(submission.clone());
    job.save()
}

/// Splits tasks into arrays whose numbers stay below the site's limit; each with what is added to its numbers.
fn split(tasks: &[u32], limit: u32) -> BTreeMap<u32, Vec<u32>> {
    let mut arrays: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &task in tasks {
        arrays.entry(task / limit * limit).or_default().push(task);
    }
    arrays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_split_at_the_site_s_limit() {
        let tasks: Vec<u32> = (0..2500).collect();
        let arrays = split(&tasks, 1001);
        assert_eq!(arrays.keys().copied().collect::<Vec<_>>(), [0, 1001, 2002]);
        for (offset, tasks) in &arrays {
            assert!(tasks.iter().all(|task| task - offset < 1001));
        }
        assert_eq!(arrays.values().map(Vec::len).sum::<usize>(), 2500);
        assert_eq!(
            split(&[3, 4], 4),
            BTreeMap::from([(0, vec![3]), (4, vec![4])])
        );
    }

    #[test]
    fn a_controller_that_did_not_hear_is_told_from_one_that_refused() {
        assert!(unheard(
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
        ));
        assert!(unheard(
            "Unable to contact slurm controller (connect failure)"
        ));
        assert!(!unheard(
            "Batch job submission failed: Invalid partition name specified"
        ));
    }
}
