//! The wrapper around a task: log, checks, attempts, and the record of its end.

use super::GO_ON_LATER;
use super::attempt::{Attempt, Deadline, Ended, Signals};
use super::requeue::Place;
use crate::data_mark::DataMark;
use crate::files::{Lock, host, unix_now, utc};
use crate::folder::{JobFolder, TaskFolder};
use crate::manifest::Binary;
use crate::records::{End, Interruption, Outcome, Progress, Started};
use crate::resources::show_time;
use crate::{JobError, Manifest, Task};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How a task is run; decides no result.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Seconds that one attempt may take.
    pub time_limit_s: Option<u64>,
    /// How often it goes on after a time-out, a preemption or a kill.
    pub max_restarts: u32,
    /// Cores.
    pub cpus: Option<u32>,
    /// MiB that it may hold; none where the scheduler watches over memory.
    pub mem_mib: Option<u64>,
}

/// Attempts in a row without a new checkpoint after which a task that is killed or asked to stop is given up.
const IDLE: u32 = 3;
const SIGKILL: i32 = 9;
/// As `timeout` of coreutils ends.
const TIMED_OUT: u8 = 124;
/// As a shell reports SIGTERM.
const TERMINATED: u8 = 143;

/// Runs a task to its end, or until it must go on later, and returns the exit code. Lines for the log go to `log`.
///
/// # Errors
/// [`JobError`] when the task cannot be run at all: then nothing is recorded but what the caller prints.
pub fn run(
    manifest: &Path,
    index: u32,
    options: Options,
    log: &mut dyn Write,
) -> Result<u8, JobError> {
    let begun = Instant::now();
    let manifest_file = std::path::absolute(manifest).map_err(JobError::read(manifest))?;
    let folder = JobFolder::of_file(&manifest_file);
    let manifest = Manifest::load(&manifest_file)?;
    let task = manifest.task(index).ok_or_else(|| JobError::NoTask {
        path: manifest_file.clone(),
        index,
        count: manifest.tasks.len(),
    })?;
    let own = folder.task(index);
    crate::files::make_folder(own.path())?;
    let signals = Signals::listen()?;
    let mut wrapper = Wrapper {
        manifest: &manifest,
        task,
        folder: &own,
        options,
        place: Place::here(),
        log,
        begun,
    };
    wrapper.run(&signals)
}

struct Wrapper<'a> {
    manifest: &'a Manifest,
    task: &'a Task,
    folder: &'a TaskFolder,
    options: Options,
    place: Place,
    log: &'a mut dyn Write,
    begun: Instant,
}

impl Wrapper<'_> {
    fn say(&mut self, line: &str) {
        // A log that cannot be written must not stop the work.
        let _ = writeln!(self.log, "{line}");
        let _ = self.log.flush();
    }

    fn run(&mut self, signals: &Signals) -> Result<u8, JobError> {
        let lock = match Lock::take(&self.folder.lock(), Duration::from_secs(2))? {
            Some(lock) => lock,
            None => {
                self.say("another process is at this task, left over from an attempt that was killed; waiting for it");
                Lock::take(&self.folder.lock(), Duration::MAX)?
                    .expect("there is no end to this patience")
            }
        };
        if let Some(outcome) = self.folder.read_outcome() {
            self.say(&format!(
                "task {} ended earlier ({:?}): nothing to do",
                self.task.index, outcome.end
            ));
            return Ok(u8::from(outcome.end != End::Done));
        }
        loop {
            let (started, before) = self.next_attempt();
            self.head(&started);
            if let Some((end, reason)) = self.given_up(&started, before) {
                return self.end(&started, end, Some(reason), None);
            }
            self.folder.write_started(&started)?;
            // Whoever cancels leaves the marker first and looks for the process to tell second.
            if self.folder.cancel().exists() {
                return self.end(&started, End::Cancelled, None, None);
            }
            let header = &self.manifest.header;
            let mut marks = header.data.iter().chain(&header.files);
            if let Err(error) = marks.try_for_each(DataMark::check) {
                self.say(&format!("error: {error}"));
                return self.end(&started, End::Failed, Some(error.to_string()), Some(2));
            }
            for file in [self.folder.stop(), self.folder.error()] {
                let _ = std::fs::remove_file(file);
            }
            match self.attempt(&lock, signals)? {
                Ended::Code(0) => return self.end(&started, End::Done, None, Some(0)),
                Ended::Code(code) => {
                    let reason = std::fs::read_to_string(self.folder.error()).ok();
                    return self.end(&started, End::Failed, reason, Some(code));
                }
                Ended::Signal(SIGKILL) => {
                    self.interrupt(started, Interruption::Killed)?;
                    self.say("the experiment was killed (signal 9): out of memory, or by somebody; it goes on from its last checkpoint");
                }
                Ended::Signal(signal) => {
                    let reason = format!("the experiment ended by signal {signal}");
                    return self.end(&started, End::Failed, Some(reason), None);
                }
                Ended::Cancelled => return self.end(&started, End::Cancelled, None, None),
                Ended::TooLarge(used) => {
                    let most = self.options.mem_mib.unwrap_or(0);
                    let reason = format!(
                        "it held {used}M of memory, its --mem is {most}M: submit again with more"
                    );
                    return self.end(&started, End::Failed, Some(reason), None);
                }
                Ended::Stopped(why) => return self.go_on_later(started, why),
            }
        }
    }

    fn attempt(&mut self, lock: &Lock, signals: &Signals) -> Result<Ended, JobError> {
        let cpus = self.slurm("SLURM_CPUS_PER_TASK").map(|cpus| cpus as u32);
        let attempt = Attempt {
            manifest: self.manifest,
            task: self.task,
            folder: self.folder,
            cpus: cpus.or(self.options.cpus),
            mem_mib: self.options.mem_mib,
        };
        let limit = self.options.time_limit_s.map(Duration::from_secs);
        let deadline =
            limit.map(|limit| Deadline::after(limit, self.begun.elapsed() + self.prolog()));
        let mut child = attempt.start(lock)?;
        attempt
            .watch(&mut child, signals, deadline)
            .map_err(JobError::read(Path::new("the experiment")))
    }

    /// Time between the beginning of the job, as Slurm counts it, and ours.
    fn prolog(&self) -> Duration {
        let start = self.slurm("SLURM_JOB_START_TIME");
        let seconds = start.map_or(0, |start| unix_now().saturating_sub(start));
        // A clock that is off by more than this says nothing.
        Duration::from_secs(if seconds < 600 { seconds } else { 0 })
            .saturating_sub(self.begun.elapsed())
    }

    /// A number that Slurm gives its jobs. Those of an allocation around the local queue are not about this task.
    fn slurm(&self, name: &str) -> Option<u64> {
        matches!(self.place, Place::Slurm(_)).then(|| std::env::var(name).ok()?.parse().ok())?
    }

    fn checkpoints(&self) -> u64 {
        self.folder
            .read_progress()
            .map_or(0, |progress| progress.checkpoints)
    }

    /// Returns the next attempt, and why the one before it stopped.
    fn next_attempt(&self) -> (Started, Option<Interruption>) {
        let before = self.folder.records().started;
        let checkpoints = self.checkpoints();
        let idle = match &before {
            Some(before) if before.checkpoints == checkpoints => before.idle + 1,
            _ => 0,
        };
        let started = Started {
            attempt: before.as_ref().map_or(0, |before| before.attempt) + 1,
            idle,
            checkpoints,
            host: host(),
            pid: std::process::id(),
            job: self.place.name().map(ToOwned::to_owned),
            log: std::env::var("LOWBIT_LOG").ok(),
            unix: unix_now(),
            interrupted: None,
        };
        (started, before.and_then(|before| before.interrupted))
    }

    /// Whether no further attempt is made: all restarts are used up, or they come to nothing.
    fn given_up(&self, next: &Started, before: Option<Interruption>) -> Option<(End, String)> {
        if next.attempt == 1 {
            return None;
        }
        // An attempt that left no word was killed with its wrapper.
        let (end, why) = match before {
            Some(Interruption::TimeLimit) => (End::TimedOut, "its time limit"),
            Some(Interruption::Asked) => (End::Preempted, "being asked to stop"),
            Some(Interruption::Killed) | None => (End::Failed, "being killed"),
        };
        if next.attempt - 1 > self.options.max_restarts {
            let reason = format!(
                "gave up after {} restarts, the last after {why}",
                self.options.max_restarts
            );
            return Some((end, reason));
        }
        if end == End::TimedOut && next.idle > 0 {
            let limit = show_time(self.options.time_limit_s.unwrap_or(0));
            let reason = format!(
                "no checkpoint within its time limit ({limit}): submit again with a longer --time"
            );
            return Some((end, reason));
        }
        (next.idle >= IDLE).then(|| {
            let reason = format!(
                "gave up: {IDLE} attempts in a row ended without a checkpoint, the last after {why}"
            );
            (end, reason)
        })
    }

    fn interrupt(&self, started: Started, why: Interruption) -> Result<(), JobError> {
        self.folder.write_started(&Started {
            interrupted: Some(why),
            ..started
        })
    }

    fn go_on_later(&mut self, started: Started, why: Interruption) -> Result<u8, JobError> {
        if why == Interruption::Asked && self.place.is_ending() {
            self.interrupt(started, why)?;
            self.say("== stopped: Slurm ends this job; if it starts it again, the task goes on from its last checkpoint ==");
            return Ok(GO_ON_LATER);
        }
        self.interrupt(started.clone(), why)?;
        let (next, before) = self.next_attempt();
        if let Some((end, reason)) = self.given_up(&next, before) {
            return self.end(&started, end, Some(reason), None);
        }
        let words = match why {
            Interruption::TimeLimit => "its time is up",
            _ => "it was asked to stop",
        };
        self.say(&format!(
            "== stopped after {} s: {words}; it goes on from its last checkpoint ==",
            self.begun.elapsed().as_secs()
        ));
        if let Err(said) = self.place.requeue() {
            let end = if why == Interruption::TimeLimit {
                End::TimedOut
            } else {
                End::Preempted
            };
            let reason = format!("{words}, and Slurm did not put it back: {said}");
            return self.end(&started, end, Some(reason), None);
        }
        Ok(GO_ON_LATER)
    }

    fn head(&mut self, started: &Started) {
        let Self { manifest, task, .. } = *self;
        let header = &manifest.header;
        let settings: Vec<_> = task
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut lines = vec![
            format!(
                "== task {} of {}: {}, attempt {} ==",
                task.index, header.name, task.name, started.attempt
            ),
            format!(
                "{} on {}, {}, pid {}",
                utc(started.unix),
                started.host,
                self.place.title(),
                started.pid
            ),
            format!("lowbit {}, {}", env!("CARGO_PKG_VERSION"), system()),
            format!("settings: {}", settings.join(" ")),
            format!("command: {}", manifest.by_hand(task)),
        ];
        let data = header.data.iter().map(|mark| ("data", mark));
        let files = header.files.iter().map(|mark| ("reads", mark));
        for (what, mark) in data.chain(files) {
            lines.push(format!(
                "{what}: {}, {}, {} bytes, checksum {:08x}",
                mark.path.display(),
                match mark.files {
                    1 => "1 file".to_owned(),
                    files => format!("{files} files"),
                },
                mark.bytes,
                mark.crc32
            ));
        }
        if let Some(limit) = self.options.time_limit_s {
            lines.push(format!("time limit: {}", show_time(limit)));
        }
        if started.checkpoints > 0 {
            lines.push(format!("goes on behind checkpoint {}", started.checkpoints));
        }
        // Replaced since it was submitted, the program may compute something else.
        if Binary::running().is_ok_and(|running| running.crc32 != header.binary.crc32) {
            lines.push(
                "note: the program is not the one that was submitted, though of the same version"
                    .into(),
            );
        }
        for line in lines {
            self.say(&line);
        }
    }

    /// Records the end and closes the log: result or error, and the line that runs this task again by hand.
    fn end(
        &mut self,
        started: &Started,
        end: End,
        reason: Option<String>,
        exit_code: Option<i32>,
    ) -> Result<u8, JobError> {
        let progress = self.folder.read_progress();
        let seconds = self.begun.elapsed().as_secs();
        let outcome = Outcome {
            end,
            reason: reason.map(|text| text.trim().replace('\n', " ")),
            exit_code,
            attempts: started.attempt,
            seconds,
            host: started.host.clone(),
            job: started.job.clone(),
            unix: unix_now(),
            progress: progress.clone(),
        };
        self.folder.write_outcome(&outcome)?;
        let what = crate::state::of_end(end).name();
        let why = outcome
            .reason
            .as_ref()
            .map_or(String::new(), |reason| format!(": {reason}"));
        self.say(&format!(
            "== {what} after {seconds} s, attempt {}{}{why} ==",
            started.attempt,
            reached(progress.as_ref())
        ));
        self.say(&format!(
            "again by hand: {}",
            self.manifest.by_hand(self.task)
        ));
        Ok(match (end, exit_code) {
            (End::Done, _) => 0,
            (End::TimedOut, _) => TIMED_OUT,
            (End::Cancelled | End::Preempted, _) => TERMINATED,
            (End::Failed, Some(code)) => u8::try_from(code)
                .ok()
                .filter(|&code| code > 0)
                .unwrap_or(1),
            (End::Failed, None) => 1,
        })
    }
}

fn reached(progress: Option<&Progress>) -> String {
    let Some(progress) = progress else {
        return String::new();
    };
    let accuracy = progress.accuracy.map_or(String::new(), |share| {
        format!(", {:.2} % test accuracy", 100.0 * share)
    });
    format!(
        ", {} {} of {}{accuracy}",
        progress.unit, progress.step, progress.steps
    )
}

/// Kernel, processor and cores of this machine, for the log.
fn system() -> String {
    let name = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(": ")
                .map(|(_, name)| name)
        })
        .unwrap_or("unknown processor");
    format!(
        "{} {}, {cpu}, {cores} cores",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    )
}
