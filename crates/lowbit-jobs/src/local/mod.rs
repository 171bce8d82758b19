//! The queue of this machine: one process per user that runs tasks within the machine's cores and memory.
//!
//! It is started by `lowbit submit --on local`, leaves the terminal, and ends when nothing is left to do. What is to be done
//! stands in a spool folder and in the jobs' own folders, so that a killed queue is replaced by the next submission.

mod queue;
mod room;

pub use queue::serve;
pub use room::Room;

use crate::files::{Lock, host, make_folder, unix_now, write_atomically};
use crate::scheduler::{Array, Batch, Engine, Job, Look, Scheduler, Seen, Submission};
use crate::state::Word;
use crate::{JobError, JobFolder};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Seconds that a queue has to take up a submission, and begin one of its tasks, before it counts as gone.
const START_S: u64 = 10;

/// The queue of this user on this machine.
#[derive(Clone, Debug)]
pub struct Local {
    spool: Spool,
    /// Arguments by which this program serves the queue.
    serve: Vec<String>,
}

/// Where the queue keeps what it has to do.
#[derive(Clone, Debug)]
pub struct Spool {
    path: PathBuf,
}

impl Spool {
    /// Returns the spool of this user on this machine: `$LOWBIT_QUEUE`, or a folder in the user's state.
    #[must_use]
    pub fn of_user() -> Self {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let path = variable("LOWBIT_QUEUE").unwrap_or_else(|| {
            let state = variable("XDG_STATE_HOME")
                .or_else(|| Some(variable("HOME")?.join(".local/state")))
                .unwrap_or_else(std::env::temp_dir);
            // Home folders are shared between machines; a queue is not.
            state.join("lowbit").join(format!("queue-{}", host()))
        });
        Self { path }
    }

    /// Returns a spool in a folder.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    fn jobs(&self) -> PathBuf {
        self.path.join("jobs")
    }

    /// Returns the queue's own log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("queue.log")
    }

    fn is_served(&self) -> bool {
        Lock::is_held(&self.lock())
    }

    /// Returns the jobs with something to do, the oldest first.
    fn entries(&self) -> Vec<(PathBuf, JobFolder)> {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(self.jobs())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                !path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with('.'))
            })
            .collect();
        entries.sort();
        let job = |entry: PathBuf| {
            let path = std::fs::read_to_string(&entry).ok()?;
            Some((entry, JobFolder::new(path)))
        };
        entries.into_iter().filter_map(job).collect()
    }

    fn add(&self, job: &JobFolder) -> Result<(), JobError> {
        make_folder(&self.jobs())?;
        if self.entries().iter().any(|(_, other)| other == job) {
            return Ok(());
        }
        let mark = crc32fast::hash(job.path().as_os_str().as_encoded_bytes());
        let name = format!("{:012}_{}_{mark:08x}", unix_now(), job.name());
        write_atomically(
            &self.jobs().join(name),
            job.path().as_os_str().as_encoded_bytes(),
        )
    }
}

impl Local {
    /// Returns this user's queue; `serve` are the arguments by which the program serves it.
    #[must_use]
    pub fn here(serve: &[&str]) -> Self {
        Self {
            spool: Spool::of_user(),
            serve: serve.iter().map(ToString::to_string).collect(),
        }
    }

    /// Starts a process that serves the queue, unless one does. It outlives this one and its terminal.
    fn wake(&self, program: &Path) -> Result<(), JobError> {
        let path = self.spool.log();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(JobError::write(&path))?;
        let errors = log.try_clone().map_err(JobError::write(&path))?;
        Command::new(program)
            .args(&self.serve)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| JobError::Read {
                path: program.to_owned(),
                source,
            })?;
        Ok(())
    }
}

impl Scheduler for Local {
    fn send(
        &self,
        job: &Job,
        submission: &mut Submission,
        batches: &[Batch],
    ) -> Result<(), JobError> {
        Room::of_machine().check(&submission.resources)?;
        submission.arrays = batches
            .iter()
            .map(|batch| Array {
                id: format!("local{}", submission.number),
                numbered: true,
                stage: batch.stage,
                offset: 0,
                tasks: batch.tasks.clone(),
            })
            .collect();
        let mut job = job.clone();
        job.submissions
            .retain(|other| other.number != submission.number);
        job.submissions.push(submission.clone());
        job.save()?;
        self.spool.add(&job.folder)?;
        self.wake(&job.manifest.header.binary.path)
    }

    fn look(&self, job: &Job) -> Look {
        let here = host();
        let served = self.spool.is_served();
        let now = unix_now();
        let queued = self
            .spool
            .entries()
            .iter()
            .any(|(_, other)| *other == job.folder);
        let sent = job.sent_to(Engine::Local);
        // A submission of which a task has begun was taken up: records of earlier ones were set aside.
        let taken_up: BTreeSet<u32> = sent
            .iter()
            .filter(|(task, _)| job.folder.task(**task).has_begun())
            .map(|(_, (submission, _))| submission.number)
            .collect();
        let mut seen = BTreeMap::new();
        for (task, (submission, _)) in sent {
            if submission.host != here {
                let why = format!("its queue is on {}; look there", submission.host);
                return Look::Unasked { why };
            }
            let folder = job.folder.task(task);
            let running = Lock::is_held(&folder.lock());
            let waking = now.saturating_sub(submission.unix) < START_S
                && !taken_up.contains(&submission.number);
            let (word, says) = if running {
                (Word::Running, "")
            } else if queued && (served || waking) {
                (Word::Waiting, "")
            } else {
                (
                    Word::Gone,
                    "the local queue is gone (killed, or the machine was restarted); submit again to go on",
                )
            };
            let node = running.then(|| here.clone());
            seen.insert(
                task,
                Seen {
                    word,
                    says: says.into(),
                    node,
                },
            );
        }
        Look::Answer { at: now, seen }
    }

    fn cancel(&self, job: &Job, tasks: &[u32]) -> Result<(), JobError> {
        for &task in tasks {
            let folder = job.folder.task(task);
            if Lock::is_held(&folder.lock()) {
                terminate(folder.records().started.map(|started| started.pid));
            }
        }
        Ok(())
    }
}

/// Asks a task's wrapper to end, if the process is one: numbers of processes are used again.
fn terminate(pid: Option<u32>) {
    let Some(pid) = pid else { return };
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_task = line.split(|&byte| byte == 0).any(|word| word == b"task");
    if let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .filter(|_| is_task)
    {
        // It may have ended by now.
        let _ = kill_process(pid, Signal::TERM);
    }
}
