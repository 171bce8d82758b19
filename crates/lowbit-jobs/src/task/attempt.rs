//! One attempt: the experiment as a child process, watched until it ends or must stop.

use super::FOLDER;
use crate::files::Lock;
use crate::folder::TaskFolder;
use crate::records::Interruption;
use crate::{JobError, Manifest, Task};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How the experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By a signal that the wrapper did not send.
    Signal(i32),
    /// Because the wrapper asked for it: at a checkpoint, or killed when none came.
    Stopped(Interruption),
    /// Because somebody cancelled it.
    Cancelled,
    /// Because it used more memory than it had asked for: so many MiB.
    TooLarge(u64),
}

/// Signals that were received. Which one it was is a hint only.
pub(super) struct Signals {
    term: Arc<AtomicBool>,
    hint: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, JobError> {
        let flag = |signals: &[i32]| {
            let flag = Arc::new(AtomicBool::new(false));
            for &signal in signals {
                signal_hook::flag::register(signal, flag.clone()).map_err(|error| {
                    JobError::value("signal", &signal.to_string(), &error.to_string())
                })?;
            }
            Ok::<_, JobError>(flag)
        };
        Ok(Self {
            term: flag(&[SIGTERM, SIGINT, SIGHUP])?,
            hint: flag(&[SIGUSR1, SIGUSR2])?,
        })
    }
}

/// When the attempt must stop, by our own clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// Ask for a stop at the next checkpoint.
    pub(super) ask: Instant,
    /// Stop without one.
    pub(super) kill: Instant,
}

/// Seconds that an experiment has for its next checkpoint after somebody asked it to stop. Slurm kills 30 s after its
/// SIGTERM by default.
const GRACE: Duration = Duration::from_secs(8);
/// The same after the signal that Slurm sends 120 s before a time limit of its own.
const HINT_GRACE: Duration = Duration::from_secs(90);

impl Deadline {
    /// Returns the deadline of an attempt that began `begun` ago and may take `limit` in all.
    pub(super) fn after(limit: Duration, begun: Duration) -> Self {
        let margin = Duration::from_secs(120).min(limit / 5);
        let now = Instant::now();
        let at = |time: Duration| now + time.saturating_sub(begun);
        Self {
            ask: at(limit.saturating_sub(margin)),
            kill: at(limit.saturating_sub(margin / 3)),
        }
    }
}

pub(super) struct Attempt<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) task: &'a Task,
    pub(super) folder: &'a TaskFolder,
    pub(super) cpus: Option<u32>,
    pub(super) mem_mib: Option<u64>,
}

impl Attempt<'_> {
    /// Starts the experiment. It inherits the task's lock, so that nobody else runs the task while it lives, even if this
    /// process is killed.
    pub(super) fn start(&self, lock: &Lock) -> Result<Child, JobError> {
        let program = &self.manifest.header.binary.path;
        let inherited = lock
            .file
            .try_clone()
            .map_err(JobError::read(&self.folder.lock()))?;
        let mut command = Command::new(program);
        command
            .args(&self.task.argv)
            .current_dir(&self.manifest.header.folder)
            .env(FOLDER, self.folder.path())
            .stdin(Stdio::from(inherited));
        if let Some(cpus) = self.cpus {
            command.env("RAYON_NUM_THREADS", cpus.to_string());
        }
        command.spawn().map_err(|source| JobError::Read {
            path: program.clone(),
            source,
        })
    }

    /// Watches the experiment until it ends.
    pub(super) fn watch(
        &self,
        child: &mut Child,
        signals: &Signals,
        deadline: Option<Deadline>,
    ) -> std::io::Result<Ended> {
        let mut stop: Option<(Interruption, Instant)> = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(self.ended(status, stop.map(|(why, _)| why)));
            }
            if signals.term.load(Ordering::Relaxed) && self.folder.cancel().exists() {
                child.kill()?;
                child.wait()?;
                return Ok(Ended::Cancelled);
            }
            if let (Some(limit), Some(used)) = (self.mem_mib, resident_mib(child.id()))
                && used > limit
            {
                child.kill()?;
                child.wait()?;
                return Ok(Ended::TooLarge(used));
            }
            let now = Instant::now();
            match stop {
                None => {
                    stop = self.reason(signals, deadline, now);
                    if stop.is_some() {
                        // The experiment looks for it after each checkpoint.
                        std::fs::write(self.folder.stop(), "")?;
                    }
                }
                Some((why, kill)) if now >= kill => {
                    child.kill()?;
                    let status = child.wait()?;
                    return Ok(self.ended(status, Some(why)));
                }
                Some(_) => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn reason(
        &self,
        signals: &Signals,
        deadline: Option<Deadline>,
        now: Instant,
    ) -> Option<(Interruption, Instant)> {
        if let Some(deadline) = deadline.filter(|deadline| now >= deadline.ask) {
            return Some((Interruption::TimeLimit, deadline.kill));
        }
        if signals.term.load(Ordering::Relaxed) {
            return Some((Interruption::Asked, now + GRACE));
        }
        // Our own clock, where it knows the limit, decides about time; then the signal says nothing new.
        let hint = signals.hint.swap(false, Ordering::Relaxed);
        (hint && deadline.is_none()).then(|| (Interruption::TimeLimit, now + HINT_GRACE))
    }

    fn ended(&self, status: ExitStatus, stop: Option<Interruption>) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal(), stop) {
            (Some(0), _, _) => Ended::Code(0),
            (_, _, Some(why)) => Ended::Stopped(why),
            (Some(code), _, None) => Ended::Code(code),
            // Sent to the wrapper as well, which will hear of it in a moment.
            (None, Some(SIGTERM | SIGINT | SIGHUP | SIGUSR1 | SIGUSR2), None) => {
                if self.folder.cancel().exists() {
                    return Ended::Cancelled;
                }
                Ended::Stopped(Interruption::Asked)
            }
            (None, signal, None) => Ended::Signal(signal.unwrap_or(0)),
        }
    }
}

/// Memory that a process holds, in MiB, where the system says so.
fn resident_mib(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kib / 1024)
}
