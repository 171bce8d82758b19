//! `lowbit cancel`: takes tasks back.

use super::jobs::{find, open};
use crate::failure::Failure;
use crate::jobs_args::Which;
use crate::output::Output;
use lowbit_jobs::scheduler::Job;
use lowbit_jobs::submit::cancel;

pub(super) fn run(output: Output, which: &Which, tasks: &[String]) -> Result<(), Failure> {
    let job = find(which)?;
    let some: Vec<u32> = tasks
        .iter()
        .map(|task| index(&job, task))
        .collect::<Result<_, _>>()?;
    let some = (!tasks.is_empty()).then_some(&some[..]);
    let cancelled = cancel(&job, some, &open)?;
    output.results(&cancelled, || {
        let name = job.folder.name();
        match cancelled.len() {
            0 => format!("{name}: nothing to cancel"),
            1 => format!("{name}: cancelled task {}", cancelled[0]),
            count => format!("{name}: cancelled {count} tasks"),
        }
    })
}

/// A task by its number or its name.
pub(super) fn index(job: &Job, task: &str) -> Result<u32, Failure> {
    let tasks = &job.manifest.tasks;
    let found = match task.parse::<u32>() {
        Ok(index) => job.manifest.task(index),
        Err(_) => tasks.iter().find(|known| known.name == task),
    };
    found.map(|task| task.index).ok_or_else(|| {
        let name = job.folder.name();
        let last = tasks.len().saturating_sub(1);
        let first = tasks.first().map_or("", |task| &task.name);
        Failure::Input(format!(
            "{task}: {name} has tasks 0 to {last}, with names such as {first}"
        ))
    })
}
