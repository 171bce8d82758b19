//! The process that serves the queue.

use super::{Room, Spool};
use crate::files::{Lock, host, make_folder, unix_now, utc};
use crate::records::{End, Outcome};
use crate::scheduler::{Engine, Job};
use crate::task::{GO_ON_LATER, QUEUE};
use crate::{JobError, JobFolder, Resources};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

/// Seconds that a new queue waits for an old one that is about to end.
const HANDOVER: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(100);

/// Serves the queue until nothing is left to do. Returns at once if another process does.
///
/// # Errors
/// [`JobError`] when the spool cannot be used.
pub fn serve(spool: &Spool, log: &mut dyn Write) -> Result<(), JobError> {
    // A session of its own: the terminal may be closed. It fails where the process leads a group, which is as good.
    let _ = rustix::process::setsid();
    make_folder(&spool.jobs())?;
    let Some(_lock) = Lock::take(&spool.lock(), HANDOVER)? else {
        return Ok(());
    };
    let mut queue = Queue {
        spool,
        room: Room::of_machine(),
        jobs: BTreeMap::new(),
        log,
    };
    queue.say(&format!("queue {} begins", std::process::id()));
    loop {
        queue.tick();
        if queue.is_empty() {
            queue.say("nothing left to do");
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
}

struct Queue<'a> {
    spool: &'a Spool,
    room: Room,
    /// By entry of the spool, whose names begin with the time.
    jobs: BTreeMap<PathBuf, Queued>,
    log: &'a mut dyn Write,
}

struct Queued {
    job: Job,
    /// Of the file that says what was sent.
    changed: Option<SystemTime>,
    /// By stage, then index.
    pending: BTreeMap<(u32, u32), Resources>,
    running: Vec<Running>,
}

struct Running {
    task: u32,
    stage: u32,
    /// Number of the submission that it was started for.
    submission: u32,
    /// None for a task that an earlier queue started.
    child: Option<Child>,
    resources: Resources,
    exclusive: bool,
}

impl Queue<'_> {
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.log, "{} {line}", utc(unix_now()));
        let _ = self.log.flush();
    }

    /// One look at every job that nobody is submitting at this moment: a submission sets records aside before it sends.
    fn tick(&mut self) {
        let mut locks = Vec::new();
        let mut entries = self.spool.entries();
        entries.retain(|(_, job)| match Lock::try_take(&job.submit_lock()) {
            Ok(Some(lock)) => {
                locks.push(lock);
                true
            }
            Ok(None) => false,
            // The job's folder is gone.
            Err(_) => true,
        });
        let free: BTreeSet<PathBuf> = entries.iter().map(|(entry, _)| entry.clone()).collect();
        self.refresh(entries);
        self.let_go(&free);
        self.reap(&free);
        self.start(&free);
    }

    /// Takes up new jobs and new submissions.
    fn refresh(&mut self, entries: Vec<(PathBuf, JobFolder)>) {
        for (entry, folder) in entries {
            let changed = changed(&folder);
            if self
                .jobs
                .get(&entry)
                .is_some_and(|queued| queued.changed == changed)
            {
                continue;
            }
            match Job::open(folder) {
                Ok(job) => {
                    let running = self
                        .jobs
                        .remove(&entry)
                        .map_or(vec![], |queued| queued.running);
                    let mut queued = Queued {
                        job,
                        changed,
                        pending: BTreeMap::new(),
                        running,
                    };
                    queued.take_up();
                    self.jobs.insert(entry, queued);
                }
                Err(error) => {
                    self.say(&format!("error: {error}"));
                    let _ = std::fs::remove_file(entry);
                }
            }
        }
    }

    /// Lets go of jobs that are finished, and of those whose entry somebody has removed: nobody can say any more what is to
    /// become of them, and a queue that waits for them would never end.
    fn let_go(&mut self, free: &BTreeSet<PathBuf>) {
        self.jobs.retain(|entry, queued| {
            let goes_on =
                !queued.pending.is_empty() || !queued.running.is_empty() || !free.contains(entry);
            let keep = goes_on && entry.exists();
            if !keep {
                let _ = std::fs::remove_file(entry);
            }
            keep
        });
    }

    fn reap(&mut self, free: &BTreeSet<PathBuf>) {
        let mut lines = Vec::new();
        for (_, queued) in self
            .jobs
            .iter_mut()
            .filter(|(entry, _)| free.contains(*entry))
        {
            queued.reap(&mut lines);
        }
        for line in lines {
            self.say(&line);
        }
    }

    /// Starts what there is room for, the oldest job first.
    fn start(&mut self, free: &BTreeSet<PathBuf>) {
        let mut lines = Vec::new();
        let running = |jobs: &BTreeMap<PathBuf, Queued>| {
            jobs.values()
                .map(|queued| queued.running.len())
                .sum::<usize>()
        };
        let jobs = self.jobs.keys().filter(|entry| free.contains(*entry));
        let entries: Vec<PathBuf> = jobs.cloned().collect();
        for entry in entries {
            while let Some(next) = self.jobs[&entry].next() {
                let tasks = self.jobs.values().flat_map(|queued| &queued.running);
                let mut room = Some(self.room);
                let mut alone = false;
                for task in tasks {
                    room = room.and_then(|room| room.less(&task.resources));
                    alone |= task.exclusive;
                }
                let queued = &self.jobs[&entry];
                let exclusive = queued
                    .job
                    .manifest
                    .task(next.1)
                    .is_some_and(|task| task.exclusive);
                let fits = room
                    .and_then(|room| room.less(&queued.pending[&next]))
                    .is_some();
                if alone || !fits || (exclusive && running(&self.jobs) > 0) {
                    // A task that measures alone is not overtaken for ever by others.
                    if exclusive {
                        return;
                    }
                    break;
                }
                let queued = self.jobs.get_mut(&entry).expect("it was looked at above");
                queued.launch(next, &mut lines);
            }
        }
        for line in lines {
            self.say(&line);
        }
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.spool.entries().is_empty()
    }
}

fn changed(folder: &JobFolder) -> Option<SystemTime> {
    std::fs::metadata(folder.file("submissions.json"))
        .ok()?
        .modified()
        .ok()
}

impl Queued {
    /// What was sent here and has not ended.
    fn take_up(&mut self) {
        let here = host();
        for (index, (submission, _)) in self.job.all_sent() {
            let folder = self.job.folder.task(index);
            let Some(task) = self.job.manifest.task(index) else {
                continue;
            };
            let mine = submission.engine == Engine::Local && submission.host == here;
            let known = self.running.iter().any(|running| running.task == index);
            if !mine || known || folder.read_outcome().is_some() {
                continue;
            }
            if Lock::is_held(&folder.lock()) {
                self.running.push(Running {
                    task: index,
                    stage: task.stage,
                    submission: submission.number,
                    child: None,
                    resources: submission.resources.clone(),
                    exclusive: task.exclusive,
                });
            } else {
                self.pending
                    .insert((task.stage, index), submission.resources.clone());
            }
        }
    }

    /// The next task whose stage has come, if the job has not as many at once as it may.
    fn next(&self) -> Option<(u32, u32)> {
        let (&next, resources) = self.pending.first_key_value()?;
        let full = resources
            .max_parallel
            .is_some_and(|most| self.running.len() >= most as usize);
        let earlier = self.running.iter().any(|running| running.stage < next.0);
        (!full && !earlier).then_some(next)
    }

    fn launch(&mut self, next: (u32, u32), lines: &mut Vec<String>) {
        let (stage, index) = next;
        let resources = self.pending.remove(&next).expect("it was found there");
        let folder = self.job.folder.task(index);
        // Cancelled while it waited.
        if folder.read_outcome().is_some() {
            return;
        }
        let name = self
            .job
            .sent(index)
            .map_or(String::new(), |(_, array)| array.key(index).to_string());
        match self.spawn(index, &name, &resources) {
            Ok(child) => {
                lines.push(format!(
                    "{}: task {index} begins as {}",
                    self.job.folder.name(),
                    child.id()
                ));
                let exclusive = self
                    .job
                    .manifest
                    .task(index)
                    .is_some_and(|task| task.exclusive);
                self.running.push(Running {
                    task: index,
                    stage,
                    submission: self.sent_by(index),
                    child: Some(child),
                    resources,
                    exclusive,
                });
            }
            Err(error) => {
                lines.push(format!("{}: task {index}: {error}", self.job.folder.name()));
                self.fail(index, error.to_string());
            }
        }
    }

    fn sent_by(&self, index: u32) -> u32 {
        let sent = self.job.sent(index);
        sent.map_or(0, |(submission, _)| submission.number)
    }

    fn spawn(&self, index: u32, name: &str, resources: &Resources) -> Result<Child, JobError> {
        let header = &self.job.manifest.header;
        let path = self
            .job
            .folder
            .logs()
            .join(format!("{}_{name}.out", header.experiment));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(JobError::write(&path))?;
        let errors = log.try_clone().map_err(JobError::write(&path))?;
        let mut command = Command::new(&header.binary.path);
        command
            .arg("task")
            .arg(self.job.folder.manifest())
            .args([
                index.to_string(),
                "--cpus".into(),
                resources.cpus.to_string(),
            ])
            .args(["--max-restarts".into(), resources.max_restarts.to_string()])
            .args(["--mem-mib".into(), resources.mem_mib.to_string()])
            .env(QUEUE, name)
            .env("LOWBIT_LOG", &path)
            .current_dir(&header.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A group of its own, which can be ended as one.
            .process_group(0);
        if let Some(seconds) = resources.time_s {
            command.args(["--time-limit-s".into(), seconds.to_string()]);
        }
        command.spawn().map_err(|source| JobError::Read {
            path: header.binary.path.clone(),
            source,
        })
    }

    fn reap(&mut self, lines: &mut Vec<String>) {
        let job = &self.job;
        let mut ended = Vec::new();
        self.running.retain_mut(|running| {
            let status = match &mut running.child {
                Some(child) => match child.try_wait() {
                    Ok(Some(status)) => Some(status),
                    _ => return true,
                },
                None if Lock::is_held(&job.folder.task(running.task).lock()) => return true,
                None => None,
            };
            let pid = running.child.as_ref().map(Child::id);
            ended.push((
                running.stage,
                running.task,
                running.submission,
                running.resources.clone(),
                status,
                pid,
            ));
            false
        });
        for (stage, index, submission, resources, status, pid) in ended {
            let how = status.map_or("ended".into(), |status| status.to_string());
            lines.push(format!("{}: task {index}: {how}", self.job.folder.name()));
            if self.job.folder.task(index).read_outcome().is_some() {
                continue;
            }
            // Sent anew before its end was noticed here: its record has been set aside.
            let again = status.is_none_or(goes_on) || submission != self.sent_by(index);
            if again {
                // What a killed wrapper left behind must not run beside the next attempt.
                if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid as i32)) {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
                // Whoever sent it anew may have given it more.
                let newest = self.job.sent(index);
                let resources = newest.map_or(resources, |(newest, _)| newest.resources.clone());
                self.pending.insert((stage, index), resources);
            } else {
                self.fail(
                    index,
                    format!("the task could not be run ({how}); its log says why"),
                );
            }
        }
    }

    fn fail(&self, index: u32, reason: String) {
        let folder = self.job.folder.task(index);
        let outcome = Outcome {
            end: End::Failed,
            reason: Some(reason),
            exit_code: None,
            attempts: folder
                .records()
                .started
                .map_or(0, |started| started.attempt),
            seconds: 0,
            host: host(),
            job: None,
            unix: unix_now(),
            progress: folder.read_progress(),
        };
        // On a full disk the task is seen as gone when the queue ends.
        let _ = folder.write_outcome(&outcome);
    }
}

/// Whether a task that left no record of its end runs again: it stopped to go on later, or it was killed.
fn goes_on(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(GO_ON_LATER)) || status.signal().is_some()
}
