//! Sends what is missing or failed, and takes back what is no longer wanted.

use crate::files::{Lock, host, unix_now, write_atomically};
use crate::records::{End, Outcome};
use crate::scheduler::{Batch, Engine, Job, Scheduler, Submission};
use crate::state::State;
use crate::view::view;
use crate::{JobError, JobFolder, Manifest, Resources};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a submission came to.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The job.
    pub job: Job,
    /// Tasks that were sent.
    pub sent: Vec<u32>,
    /// Tasks that are done and were left alone.
    pub done: usize,
    /// Tasks that are under way and were left alone.
    pub under_way: usize,
}

/// Opens a back-end.
pub type Open<'a> = &'a dyn Fn(Engine) -> Result<Box<dyn Scheduler>, JobError>;

/// Sends the tasks of `manifest` that are neither done nor under way.
///
/// # Errors
/// [`JobError`] when the job's files cannot be used or the scheduler refuses; what was sent before is recorded.
pub fn submit(
    manifest: Manifest,
    engine: Engine,
    resources: Resources,
    open: Open<'_>,
) -> Result<Sent, JobError> {
    let scheduler = open(engine)?;
    check_out(&manifest, engine)?;
    if engine == Engine::Local {
        // Before anything is written: what this machine can never run leaves no job behind.
        crate::local::Room::of_machine().check(&resources)?;
    }
    let folder = JobFolder::of(&manifest);
    folder.make(&manifest)?;
    let file = folder.submit_lock();
    let Some(_lock) = Lock::take(&file, Duration::from_secs(60))? else {
        return Err(JobError::NoJob {
            path: file,
            reason: "another submission of this job is at work".into(),
        });
    };
    if folder.manifest().exists() {
        // Of the same version, or it is refused: a job is finished by the program that began it.
        Manifest::load(&folder.manifest())?;
    } else {
        manifest.save(&folder.manifest())?;
    }
    let mut job = Job::open(folder)?;
    let states = view(&job, open).states();
    let plan = plan(&job.manifest, &states);
    let mut sent = Sent {
        sent: plan.send.clone(),
        done: count(&states, &plan.send, |state| state == State::Done),
        under_way: count(&states, &plan.send, |state| {
            !state.is_terminal() && state != State::NotSubmitted
        }),
        job: job.clone(),
    };
    if plan.send.is_empty() {
        return Ok(sent);
    }
    let withdrawn: Vec<u32> = plan
        .send
        .iter()
        .copied()
        .filter(|&task| states[task as usize] == State::Waiting)
        .collect();
    if !withdrawn.is_empty() {
        scheduler.cancel(&job, &withdrawn)?;
    }
    let batches = batches(&job, &states, &plan.send);
    let mut submission = next_submission(&mut job, engine, resources);
    for &task in &plan.send {
        job.folder.task(task).set_aside(submission.number)?;
    }
    scheduler.send(&job, &mut submission, &batches)?;
    sent.job = Job::open(job.folder)?;
    Ok(sent)
}

/// Slurm leaves the numbers out of the names of logs whose path has a backslash in it: all tasks would share one, or none start.
fn check_out(manifest: &Manifest, engine: Engine) -> Result<(), JobError> {
    let out = manifest.header.out.display().to_string();
    match engine == Engine::Slurm && out.contains('\\') {
        true => Err(JobError::Value {
            what: "--out".into(),
            value: out,
            expected: "a path without a backslash, which Slurm takes for a word of its own".into(),
        }),
        false => Ok(()),
    }
}

fn count(states: &[State], sent: &[u32], wanted: impl Fn(State) -> bool) -> usize {
    let left = |(index, state): (usize, &State)| !sent.contains(&(index as u32)) && wanted(*state);
    states.iter().enumerate().filter(|&task| left(task)).count()
}

/// What a submission sends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    send: Vec<u32>,
}

/// Tasks that are missing or failed; and of later stages those that have ended or wait, since there will be more to read.
fn plan(manifest: &Manifest, states: &[State]) -> Plan {
    let mut send = Vec::new();
    let mut from = u32::MAX;
    for task in &manifest.tasks {
        let state = states[task.index as usize];
        if state.is_to_send() {
            from = from.min(task.stage);
        }
    }
    for task in &manifest.tasks {
        let state = states[task.index as usize];
        let reads_more = task.stage > from && (state == State::Done || state == State::Waiting);
        if state.is_to_send() || reads_more {
            send.push(task.index);
        }
    }
    Plan { send }
}

/// Groups tasks by stage; each batch waits for the tasks of earlier stages that are under way.
fn batches(job: &Job, states: &[State], send: &[u32]) -> Vec<Batch> {
    let stages: BTreeSet<u32> = send
        .iter()
        .filter_map(|&task| Some(job.manifest.task(task)?.stage))
        .collect();
    let batch = |stage: u32| {
        let tasks: Vec<u32> = send
            .iter()
            .copied()
            .filter(|&task| {
                job.manifest
                    .task(task)
                    .is_some_and(|task| task.stage == stage)
            })
            .collect();
        let under_way = job
            .all_sent()
            .into_iter()
            .filter(|(task, (submission, array))| {
                let state = states[*task as usize];
                submission.engine == Engine::Slurm
                    && array.numbered
                    && array.stage < stage
                    && !send.contains(task)
                    && !state.is_terminal()
            });
        let after: BTreeSet<String> = under_way.map(|(_, (_, array))| array.id.clone()).collect();
        let exclusive = tasks
            .iter()
            .any(|&task| job.manifest.task(task).is_some_and(|task| task.exclusive));
        Batch {
            stage,
            tasks,
            after: after.into_iter().collect(),
            exclusive,
        }
    };
    stages.into_iter().map(batch).collect()
}

fn next_submission(job: &mut Job, engine: Engine, resources: Resources) -> Submission {
    let number = job.submissions.last().map_or(0, |last| last.number) + 1;
    Submission {
        number,
        unix: unix_now(),
        engine,
        host: host(),
        resources,
        token: format!("{}.{number}", job.folder.name()),
        arrays: vec![],
    }
}

/// Returns what would be sent, for people: the batch scripts (Slurm) or the tasks' commands (local), and the manifest.
///
/// # Errors
/// [`JobError`] when the machine can never run such a task.
pub fn preview(
    manifest: &Manifest,
    engine: Engine,
    resources: &Resources,
) -> Result<String, JobError> {
    check_out(manifest, engine)?;
    let mut job = Job {
        folder: JobFolder::of(manifest),
        manifest: manifest.clone(),
        submissions: vec![],
    };
    let all: Vec<u32> = manifest.tasks.iter().map(|task| task.index).collect();
    let submission = next_submission(&mut job, engine, resources.clone());
    let mut text = String::new();
    let states = vec![State::NotSubmitted; all.len()];
    for mut batch in batches(&job, &states, &all) {
        if engine == Engine::Local {
            crate::local::Room::of_machine().check(resources)?;
            break;
        }
        if batch.stage > 0 {
            batch.after = vec![format!("<the arrays of stage {}>", batch.stage - 1)];
        }
        let name = format!("{}.{}.0", submission.token, batch.stage);
        let script = crate::slurm::script(&job, &submission, &batch, &name, 0);
        text += &format!("# sbatch, stage {}\n{script}\n", batch.stage);
    }
    text += &format!("# {}\n", job.folder.manifest().display());
    for task in &manifest.tasks {
        text += &format!(
            "# task {}, {}\n{}\n",
            task.index,
            task.name,
            manifest.by_hand(task)
        );
    }
    Ok(text)
}

/// Cancels tasks of a job: all that have not ended, or some of them. Returns which.
///
/// # Errors
/// [`JobError`] when a marker cannot be written or the scheduler refuses.
pub fn cancel(job: &Job, some: Option<&[u32]>, open: Open<'_>) -> Result<Vec<u32>, JobError> {
    let sent = job.all_sent();
    let wanted = |task: u32| some.is_none_or(|some| some.contains(&task));
    let over = |task: u32| job.folder.task(task).read_outcome().is_some();
    let tasks: Vec<u32> = sent
        .keys()
        .copied()
        .filter(|&task| wanted(task) && !over(task))
        .collect();
    for &task in &tasks {
        write_atomically(&job.folder.task(task).cancel(), b"")?;
    }
    for &task in &tasks {
        let folder = job.folder.task(task);
        // Where nobody is at it, it ends here; a wrapper that starts after this finds the record.
        let Some(_lock) = Lock::try_take(&folder.lock())? else {
            continue;
        };
        let records = folder.records();
        if records.outcome.is_some() {
            continue;
        }
        folder.write_outcome(&Outcome {
            end: End::Cancelled,
            reason: None,
            exit_code: None,
            attempts: records
                .started
                .as_ref()
                .map_or(0, |started| started.attempt),
            seconds: 0,
            host: records.started.map_or_else(host, |started| started.host),
            job: sent
                .get(&task)
                .map(|(_, array)| array.key(task).to_string()),
            unix: unix_now(),
            progress: records.progress,
        })?;
    }
    for engine in [Engine::Slurm, Engine::Local] {
        let theirs: Vec<u32> = tasks
            .iter()
            .copied()
            .filter(|task| sent[task].0.engine == engine)
            .collect();
        if !theirs.is_empty() {
            open(engine)?.cancel(job, &theirs)?;
        }
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::task;

    fn staged() -> Manifest {
        let tasks = vec![
            task(0, "a"),
            task(0, "b"),
            task(0, "c"),
            task(1, "measure"),
            task(2, "analysis"),
        ];
        Manifest::freeze("sweep", "/".into(), "/o".into(), None, vec![], tasks).unwrap()
    }

    fn sent(states: [State; 5]) -> Vec<u32> {
        plan(&staged(), &states).send
    }

    #[test]
    fn a_second_submission_sends_exactly_what_is_missing_or_failed_and_what_reads_it() {
        use State::{
            Cancelled, Done, Failed, Lost, NeverStarted, NotSubmitted, Preempted, Running,
            TimedOut, Unknown, Waiting,
        };
        assert_eq!(sent([NotSubmitted; 5]), [0, 1, 2, 3, 4]);
        assert!(sent([Done; 5]).is_empty());
        assert!(sent([Running, Waiting, Unknown, Waiting, Waiting]).is_empty());
        assert_eq!(sent([Done, Failed, Done, Done, Done]), [1, 3, 4]);
        assert_eq!(
            sent([TimedOut, Preempted, Lost, NeverStarted, Cancelled]),
            [0, 1, 2, 3, 4]
        );
        // What waits for the old tasks only is sent anew, to wait for the new ones as well.
        assert_eq!(sent([Done, Running, Failed, Waiting, Waiting]), [2, 3, 4]);
        assert_eq!(sent([Done, Done, Done, Done, Failed]), [4]);
        assert_eq!(sent([Done, Done, Done, Failed, Done]), [3, 4]);
    }
}
