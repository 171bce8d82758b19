//! Waits for a job and says what did not end well.

use crate::JobError;
use crate::scheduler::Job;
use crate::state::State;
use crate::submit::Open;
use crate::view::{Row, View, view};
use std::time::Duration;

/// Waits until every task of a job has ended; `shown` hears of each look. Records are read often, schedulers asked seldom.
///
/// # Errors
/// [`JobError`] when the job's own files cannot be read any more.
pub fn wait(job: &Job, open: Open<'_>, shown: &mut dyn FnMut(&View)) -> Result<View, JobError> {
    loop {
        // Another submission may have come in.
        let job = Job::open(job.folder.clone())?;
        let view = view(&job, open);
        shown(&view);
        let idle = view
            .tasks
            .iter()
            .all(|row| row.state.is_terminal() || row.state == State::NotSubmitted);
        if idle {
            return Ok(view);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Returns a line for every task that is not done.
#[must_use]
pub fn not_done(view: &View) -> Vec<String> {
    let line = |row: &Row| {
        let why = row
            .reason
            .as_ref()
            .map_or(String::new(), |reason| format!(": {reason}"));
        let log = row.log.as_ref().filter(|log| log.exists());
        let log = log.map_or(String::new(), |log| format!(" (log {})", log.display()));
        format!(
            "task {} ({}) {}{why}{log}",
            row.task,
            row.name,
            row.state.name()
        )
    };
    view.tasks
        .iter()
        .filter(|row| row.state != State::Done)
        .map(line)
        .collect()
}
