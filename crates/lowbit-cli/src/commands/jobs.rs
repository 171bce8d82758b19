//! `lowbit jobs`: what became of the tasks.

use crate::failure::Failure;
use crate::jobs_args::Which;
use crate::output::{Output, bold, print};
use crate::table::table;
use lowbit_jobs::local::Local;
use lowbit_jobs::scheduler::{Engine, Job, Scheduler};
use lowbit_jobs::slurm::Slurm;
use lowbit_jobs::view::{Row, View, view};
use lowbit_jobs::{JobError, JobFolder, State};
use std::io::IsTerminal;
use std::time::Duration;

/// Opens a back-end.
pub(super) fn open(engine: Engine) -> Result<Box<dyn Scheduler>, JobError> {
    Ok(match engine {
        Engine::Slurm => Box::new(Slurm::here()?),
        Engine::Local => Box::new(Local::here(&["queue"])),
    })
}

/// Opens the job that is meant.
pub(super) fn find(which: &Which) -> Result<Job, Failure> {
    let folder = JobFolder::find(&which.out, which.job.as_deref())?;
    Ok(Job::open(folder)?)
}

pub(super) fn run(output: Output, which: &Which, watch: bool) -> Result<(), Failure> {
    loop {
        // Anew each time: a submission may have come in.
        let jobs = match which.job {
            Some(_) => vec![find(which)?],
            None => all(output, which)?,
        };
        let views: Vec<View> = jobs.iter().map(|job| view(job, &open)).collect();
        if watch && std::io::stdout().is_terminal() && !output.json {
            print("\x1b[2J\x1b[H")?;
        }
        output.results(&views, || views.iter().map(text).collect())?;
        if !watch || views.iter().all(View::is_over) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// All jobs that can be read. One that cannot, such as another version's, does not hide the others.
fn all(output: Output, which: &Which) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::new();
    let mut wrong = None;
    for found in JobFolder::all(&which.out)?.into_iter().map(Job::open) {
        match found {
            Ok(job) => jobs.push(job),
            Err(error) => {
                if let Some(earlier) = wrong.replace(error) {
                    output.note(&format!("note: {earlier}"));
                }
            }
        }
    }
    match wrong {
        Some(error) if jobs.is_empty() => return Err(error.into()),
        Some(error) => output.note(&format!("note: {error}")),
        None => {}
    }
    Ok(jobs)
}

fn text(view: &View) -> String {
    let header = [
        "task", "", "state", "node", "time", "reached", "test %", "why",
    ];
    let rows: Vec<_> = view.tasks.iter().map(row).collect();
    let mut text = format!(
        "\n{}: {}\n{}",
        bold(&view.job),
        counts(view),
        table(&header, &rows)
    );
    if let Some(why) = &view.unasked {
        text += &format!("the scheduler could not be asked ({why}); unknown is not failed\n");
    }
    text
}

/// `4 done, 1 failed`.
pub(super) fn counts(view: &View) -> String {
    let each = |(state, count): (State, usize)| format!("{count} {}", state.name());
    view.counts()
        .into_iter()
        .map(each)
        .collect::<Vec<_>>()
        .join(", ")
}

fn row(row: &Row) -> Vec<String> {
    let progress = row.progress.as_ref();
    let again = if row.attempts > 1 {
        format!("attempt {}", row.attempts)
    } else {
        String::new()
    };
    let why: Vec<&str> = [again.as_str(), row.reason.as_deref().unwrap_or_default()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    vec![
        row.task.to_string(),
        row.name.clone(),
        row.state.name().into(),
        row.node.clone().unwrap_or_default(),
        row.elapsed_s
            .map_or(String::new(), lowbit_jobs::resources::show_time),
        progress.map_or(String::new(), |at| {
            format!("{} {}/{}", at.unit, at.step, at.steps)
        }),
        progress
            .and_then(|at| at.accuracy)
            .map_or(String::new(), |share| format!("{:.2}", 100.0 * share)),
        why.join(", "),
    ]
}
