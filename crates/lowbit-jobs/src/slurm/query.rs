//! At most one question to Slurm in ten seconds, whatever the number of tasks, jobs and people who look.

use super::call::call;
use super::reply::{self, Reply};
use crate::files::{Lock, make_folder, read_json, unix_now, write_json};
use crate::scheduler::{Engine, Job, Look, Seen};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Seconds between two questions.
const INTERVAL_S: u64 = 10;
/// Seconds between two questions to a controller that keeps silent.
const LONGEST_S: u64 = 60;
/// Seconds for which the site's limit on arrays is taken as known.
const LIMIT_S: u64 = 86_400;
/// Slurm's default for MaxArraySize.
const MAX_ARRAY_SIZE: u32 = 1001;

/// Questions to Slurm. The answers lie in a file, which all processes of a user share.
#[derive(Clone, Debug)]
pub struct Queries {
    file: PathBuf,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answers {
    /// When Slurm was asked anything, and how often in a row it kept silent.
    asked: u64,
    silent: u32,
    trouble: Option<String>,
    queue: Option<Answer>,
    history: Option<Answer>,
    /// Whether this site's squeue writes no JSON, and whether it has no accounting.
    no_json: bool,
    no_accounting: bool,
    limit: Option<(u64, u32)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    at: u64,
    tasks: Vec<(crate::scheduler::Key, Seen)>,
}

impl Queries {
    /// Returns the questions of this user to the cluster of the environment.
    #[must_use]
    pub fn of_user() -> Self {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let cache = variable("XDG_CACHE_HOME")
            .or_else(|| Some(variable("HOME")?.join(".cache")))
            .unwrap_or_else(std::env::temp_dir);
        let cluster = std::env::var("SLURM_CONF").unwrap_or_default();
        let name = format!("slurm_{:08x}.json", crc32fast::hash(cluster.as_bytes()));
        Self::at(cache.join("lowbit").join(name))
    }

    /// Returns questions whose answers lie in `file`.
    #[must_use]
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Says what Slurm knows of a job's tasks; asks it if the last question is long enough ago.
    pub(super) fn look(&self, job: &Job) -> Look {
        let answers = self.with_answers(|answers| {
            let wait = (INTERVAL_S << answers.silent.min(3)).min(LONGEST_S);
            if unix_now().saturating_sub(answers.asked) >= wait {
                ask(answers, job);
            }
        });
        if let Some(why) = &answers.trouble {
            return Look::Unasked { why: why.clone() };
        }
        let Some(queue) = &answers.queue else {
            return Look::Unasked {
                why: "not asked yet".into(),
            };
        };
        let known = |answer: &Answer| answer.tasks.iter().cloned().collect::<Reply>();
        let mut reply = answers.history.as_ref().map(known).unwrap_or_default();
        reply.extend(known(queue));
        let seen = job
            .sent_to(Engine::Slurm)
            .into_iter()
            .filter_map(|(task, (_, array))| Some((task, reply.get(&array.key(task))?.clone())));
        Look::Answer {
            at: queue.at,
            seen: seen.collect(),
        }
    }

    /// Returns the site's MaxArraySize: numbers of an array's tasks are below it.
    pub(super) fn max_array_size(&self) -> u32 {
        let now = unix_now();
        let answers = self.with_answers(|answers| {
            if answers
                .limit
                .is_some_and(|(at, _)| now.saturating_sub(at) < LIMIT_S)
            {
                return;
            }
            let said = call("scontrol", &["show", "config"], None).unwrap_or_default();
            let line = said
                .lines()
                .find(|line| line.trim_start().starts_with("MaxArraySize"));
            let size = line.and_then(|line| line.split('=').nth(1)?.trim().parse().ok());
            answers.limit = size.filter(|&size| size > 0).map(|size| (now, size));
        });
        answers.limit.map_or(MAX_ARRAY_SIZE, |(_, size)| size)
    }

    /// Works on the answers, one process at a time, and keeps them.
    fn with_answers(&self, work: impl FnOnce(&mut Answers)) -> Answers {
        let folder = self
            .file
            .parent()
            .map(ToOwned::to_owned)
            .unwrap_or_default();
        let _ = make_folder(&folder);
        let lock = Lock::take(&self.file.with_extension("lock"), Duration::from_secs(30));
        let mut answers: Answers = read_json(&self.file).unwrap_or_default();
        if matches!(lock, Ok(Some(_))) {
            work(&mut answers);
            // Without a place for it the next look asks again.
            let _ = write_json(&self.file, &answers);
        }
        answers
    }
}

/// One question: the queue, or the history of tasks that the queue no longer names, in turn.
fn ask(answers: &mut Answers, job: &Job) {
    answers.asked = unix_now();
    let gone = gone(answers, job);
    let queue_at = answers.queue.as_ref().map_or(0, |queue| queue.at);
    let history_at = answers.history.as_ref().map_or(0, |history| history.at);
    if !gone.is_empty()
        && !answers.no_accounting
        && answers.trouble.is_none()
        && queue_at > history_at
    {
        match history(&gone) {
            Ok(reply) => keep(&mut answers.history, reply, answers.asked),
            // Sites without accounting are common; the tasks' own records must do.
            Err(said) => {
                answers.no_accounting = said.contains("disabled") || said.contains("cannot run")
            }
        }
        return;
    }
    let asked = if answers.no_json {
        by_scontrol()
    } else {
        by_squeue(&mut answers.no_json)
    };
    match asked {
        Ok(reply) => {
            keep(&mut answers.queue, reply, answers.asked);
            answers.trouble = None;
            answers.silent = 0;
        }
        Err(said) => {
            answers.trouble = Some(said);
            answers.silent += 1;
        }
    }
}

fn keep(place: &mut Option<Answer>, reply: Reply, at: u64) {
    *place = Some(Answer {
        at,
        tasks: reply.into_iter().collect(),
    });
}

/// Array ids of sent tasks that the last look at the queue did not name and that left no record of their end.
fn gone(answers: &Answers, job: &Job) -> Vec<String> {
    let Some(queue) = &answers.queue else {
        return vec![];
    };
    let named: std::collections::HashSet<_> = queue.tasks.iter().map(|(key, _)| key).collect();
    let mut ids: Vec<String> = job
        .sent_to(Engine::Slurm)
        .into_iter()
        .filter(|(task, (_, array))| {
            !named.contains(&array.key(*task)) && job.folder.task(*task).read_outcome().is_none()
        })
        .map(|(_, (_, array))| array.id.clone())
        .collect();
    ids.dedup();
    ids
}

fn by_squeue(no_json: &mut bool) -> Result<Reply, String> {
    let said = call("squeue", &["--json", "--me", "--states=all"], None);
    let reply = match &said {
        Ok(said) => reply::squeue(said),
        Err(said) if said.contains("option") => None,
        Err(said) => return Err(said.clone()),
    };
    *no_json = reply.is_none();
    reply.ok_or_else(|| "squeue writes no JSON here; scontrol is asked next".into())
}

fn by_scontrol() -> Result<Reply, String> {
    let said = call("scontrol", &["--oneliner", "show", "job"], None)?;
    Ok(reply::scontrol(&said))
}

fn history(ids: &[String]) -> Result<Reply, String> {
    let jobs = ids.join(",");
    let arguments = [
        "--jobs",
        &jobs,
        "--parsable2",
        "--noheader",
        "--allocations",
        "--format=JobID,State,ExitCode,NodeList",
    ];
    call("sacct", &arguments, None).map(|said| reply::sacct(&said))
}
