//! What people see of a job: one row per task.

use crate::files::{read_json, unix_now, write_json};
use crate::folder::Records;
use crate::records::Progress;
use crate::scheduler::{Engine, Job, Look, Scheduler, Seen};
use crate::state::{Sight, State, decide};
use crate::{JobError, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its index.
    pub task: u32,
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: u32,
    /// What tells it from other tasks.
    pub settings: BTreeMap<String, String>,
    /// What it is.
    pub state: State,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Where it runs or ran.
    pub node: Option<String>,
    /// What the scheduler calls it.
    pub job: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Seconds of the attempt that runs or ran last.
    pub elapsed_s: Option<u64>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Its log.
    pub log: Option<PathBuf>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Its name.
    pub job: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Why a scheduler could not be asked.
    pub unasked: Option<String>,
    /// By index.
    pub tasks: Vec<Row>,
}

impl View {
    /// Returns whether every task has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|row| row.state.is_terminal())
    }

    /// Returns how many tasks are in each state that occurs.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<State, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.tasks {
            *counts.entry(row.state).or_default() += 1;
        }
        counts
    }

    /// Returns the states by index.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        self.tasks.iter().map(|row| row.state).collect()
    }
}

/// Since when a scheduler says the same of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watched {
    /// Its words; none for absence.
    says: Option<String>,
    since: u64,
}

const WATCH: &str = "watch.json";

/// Looks at a job. `scheduler` opens a back-end; one whose tasks have all left a record of their end is not asked, and the
/// tasks of one that does not answer are unknown.
#[must_use]
pub fn view(job: &Job, scheduler: &dyn Fn(Engine) -> Result<Box<dyn Scheduler>, JobError>) -> View {
    let now = unix_now();
    let sent = job.all_sent();
    let over = |task: &Task| job.folder.task(task.index).read_outcome().is_some();
    let open: Vec<u32> = job
        .manifest
        .tasks
        .iter()
        .filter(|task| !over(task))
        .map(|task| task.index)
        .collect();
    let mut looks = BTreeMap::new();
    for index in &open {
        if let Some((submission, _)) = sent.get(index) {
            looks.entry(submission.engine as u8).or_insert_with(|| {
                match scheduler(submission.engine) {
                    Ok(scheduler) => scheduler.look(job),
                    Err(error) => Look::Unasked {
                        why: error.to_string(),
                    },
                }
            });
        }
    }
    let before: BTreeMap<u32, Watched> = read_json(&job.folder.file(WATCH)).unwrap_or_default();
    let mut watched = BTreeMap::new();
    let mut unasked = None;
    let mut rows = Vec::new();
    for task in &job.manifest.tasks {
        // After the look: a task may leave its record while the scheduler is being asked.
        let records = job.folder.task(task.index).records();
        let sent = sent.get(&task.index);
        let look = sent.and_then(|(submission, _)| looks.get(&(submission.engine as u8)));
        let mut seen = None;
        let sight = match look {
            Some(Look::Answer { at, seen: all }) => {
                seen = all.get(&task.index).cloned();
                sight(task.index, seen.as_ref(), *at, &before, &mut watched)
            }
            Some(Look::Unasked { why }) => {
                unasked = Some(why.clone());
                Sight::Unasked
            }
            None => Sight::Unasked,
        };
        let (state, reason) = decide(&records, sent.is_some(), &sight, now);
        let key = sent.map(|(_, array)| array.key(task.index).to_string());
        let log = sent.map(|(submission, array)| {
            // A site's own wrapper numbers nothing: such a log is named by the submission.
            let name = match array.numbered {
                true => array.key(task.index).to_string(),
                false => format!("{}_{}", submission.number, task.index),
            };
            let experiment = &job.manifest.header.experiment;
            job.folder.logs().join(format!("{experiment}_{name}.out"))
        });
        let names = (key, log);
        rows.push(row(task, &records, (state, reason), seen, names, now));
    }
    if watched != before {
        // Without it the patience with an absent task begins anew.
        let _ = write_json(&job.folder.file(WATCH), &watched);
    }
    View {
        job: job.manifest.header.name.clone(),
        folder: job.folder.path().to_owned(),
        unasked,
        tasks: rows,
    }
}

fn sight(
    task: u32,
    seen: Option<&Seen>,
    at: u64,
    before: &BTreeMap<u32, Watched>,
    watched: &mut BTreeMap<u32, Watched>,
) -> Sight {
    let says = seen.map(|seen| format!("{:?} {}", seen.word, seen.says));
    let same = before.get(&task).filter(|watched| watched.says == says);
    let since = same.map_or(at, |watched| watched.since);
    watched.insert(task, Watched { says, since });
    match seen {
        None => Sight::Absent { since, asked: at },
        Some(seen) => Sight::Seen {
            word: seen.word,
            says: seen.says.clone(),
            since,
            asked: at,
        },
    }
}

fn row(
    task: &Task,
    records: &Records,
    (state, reason): (State, Option<String>),
    seen: Option<Seen>,
    (key, log): (Option<String>, Option<PathBuf>),
    now: u64,
) -> Row {
    let (started, outcome) = (records.started.as_ref(), records.outcome.as_ref());
    let elapsed_s = match (outcome, started) {
        (Some(outcome), _) => Some(outcome.seconds),
        (None, Some(started)) if state == State::Running => Some(now.saturating_sub(started.unix)),
        _ => None,
    };
    let node = match (outcome, seen) {
        (Some(outcome), _) => Some(outcome.host.clone()),
        (None, Some(seen)) if seen.node.is_some() => seen.node,
        _ => started.map(|started| started.host.clone()),
    };
    Row {
        task: task.index,
        name: task.name.clone(),
        stage: task.stage,
        settings: task.settings.clone(),
        state,
        reason,
        node,
        job: key,
        attempts: outcome
            .map(|outcome| outcome.attempts)
            .or(started.map(|started| started.attempt))
            .unwrap_or(0),
        elapsed_s,
        progress: outcome
            .and_then(|outcome| outcome.progress.clone())
            .or(records.progress.clone()),
        log: started
            .and_then(|started| started.log.as_ref().map(PathBuf::from))
            .or(log),
    }
}
