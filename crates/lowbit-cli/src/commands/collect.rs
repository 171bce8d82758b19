//! `lowbit collect`: waits for a job, then analyzes what there is and says what is missing.

use super::jobs::{counts, find, open};
use crate::failure::Failure;
use crate::jobs_args::Which;
use crate::output::{Output, tell};
use lowbit_jobs::State;
use lowbit_jobs::collect::{not_done, wait};
use lowbit_jobs::scheduler::Job;
use lowbit_jobs::view::{Row, View};
use std::process::Command;

pub(super) fn run(output: Output, which: &Which) -> Result<(), Failure> {
    let job = find(which)?;
    let mut before = String::new();
    let view = wait(&job, &open, &mut |view| {
        let now = counts(view);
        if now != before {
            output.note(&format!("{}: {now}", view.job));
            before = now;
        }
    })?;
    if view
        .tasks
        .iter()
        .any(|row| row.stage == 0 && has_figures(row))
    {
        analyze(output, &job)?;
    }
    missing(&view)
}

/// Whether a task ended well. Where what it made is gone since, its figures may be there.
fn has_figures(row: &Row) -> bool {
    row.state == State::Done || row.state == State::Lost && row.elapsed_s.is_some()
}

/// Analyzes what the tasks have left, by the program that they ran; an experiment of one task has shown it in its log.
fn analyze(output: Output, job: &Job) -> Result<(), Failure> {
    let header = &job.manifest.header;
    let Some(task) = job
        .manifest
        .tasks
        .iter()
        .find(|task| task.name == "analysis")
    else {
        return output.written(&header.out);
    };
    let mut command = Command::new(&header.binary.path);
    command.args(&task.argv);
    for (flag, wanted) in [("--json", output.json), ("--quiet", output.quiet)] {
        if wanted {
            command.arg(flag);
        }
    }
    let wrong = |text: String| Failure::Run(format!("{}: {text}", header.binary.path.display()));
    let status = command.status().map_err(|error| wrong(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(wrong(format!("the analysis ended with {status}")))
    }
}

fn missing(view: &View) -> Result<(), Failure> {
    let missing = not_done(view);
    if missing.is_empty() {
        return Ok(());
    }
    for line in &missing {
        tell(line);
    }
    Err(Failure::Run(format!(
        "{}: {} of {} tasks are not done; the same `lowbit submit` again sends exactly these",
        view.job,
        missing.len(),
        view.tasks.len()
    )))
}
