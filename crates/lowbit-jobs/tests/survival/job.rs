//! Jobs of the tests: made, sent, watched, disturbed.

use crate::program::undisturbed;
use lowbit_jobs::data_mark::DataMark;
use lowbit_jobs::local::Local;
use lowbit_jobs::scheduler::{Engine, Job, Scheduler};
use lowbit_jobs::slurm::Slurm;
use lowbit_jobs::submit::{Sent, cancel, submit};
use lowbit_jobs::view::{Row, View, view};
use lowbit_jobs::{JobError, JobFolder, Manifest, Resources, State, Task};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) struct TestJob {
    pub(crate) folder: TempDir,
    pub(crate) engine: Engine,
    pub(crate) manifest: Manifest,
}

/// A task's name, stage, steps, milliseconds per step and manner.
pub(crate) type Plan<'a> = (&'a str, u32, u64, u64, &'a str);

pub(crate) fn open(engine: Engine) -> Result<Box<dyn Scheduler>, JobError> {
    Ok(match engine {
        Engine::Slurm => Box::new(Slurm::here()?),
        Engine::Local => Box::new(Local::here(&["queue"])),
    })
}

/// Little, so that tests fit beside each other on a small machine.
pub(crate) fn resources() -> Resources {
    Resources {
        cpus: 1,
        mem_mib: 64,
        ..Resources::default()
    }
}

impl TestJob {
    pub(crate) fn new(engine: Engine, plans: &[Plan<'_>]) -> Self {
        Self::with_data(engine, plans, None)
    }

    pub(crate) fn with_data(engine: Engine, plans: &[Plan<'_>], data: Option<DataMark>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let task = |&(name, stage, steps, ms, how): &Plan<'_>| Task {
            index: 0,
            stage,
            exclusive: false,
            name: name.into(),
            settings: [("steps".to_owned(), steps.to_string())].into(),
            argv: [
                "work",
                &folder.path().display().to_string(),
                name,
                &steps.to_string(),
                &ms.to_string(),
                how,
            ]
            .map(ToOwned::to_owned)
            .into(),
        };
        let tasks = plans.iter().map(task).collect();
        let path = folder.path().to_owned();
        let manifest =
            Manifest::freeze("chain", path.clone(), path.join("out"), data, vec![], tasks).unwrap();
        Self {
            folder,
            engine,
            manifest,
        }
    }

    pub(crate) fn submit(&self, resources: Resources) -> Result<Sent, JobError> {
        submit(self.manifest.clone(), self.engine, resources, &open)
    }

    pub(crate) fn job(&self) -> Job {
        Job::open(JobFolder::of(&self.manifest)).unwrap()
    }

    pub(crate) fn view(&self) -> View {
        view(&self.job(), &open)
    }

    pub(crate) fn row(&self, task: usize) -> Row {
        self.view().tasks[task].clone()
    }

    pub(crate) fn cancel(&self, tasks: Option<&[u32]>) -> Vec<u32> {
        cancel(&self.job(), tasks, &open).unwrap()
    }

    /// Waits until the job looks as it should.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&View) -> bool) -> View {
        let begun = Instant::now();
        loop {
            let view = self.view();
            if is(&view) {
                return view;
            }
            let rows: Vec<_> = view
                .tasks
                .iter()
                .map(|row| (row.name.clone(), row.state, row.reason.clone()))
                .collect();
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "waited in vain until {what}: {rows:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn until_over(&self) -> View {
        self.until("all is over", View::is_over)
    }

    /// Waits until a task has taken a step. What the scheduler says of it may be ten seconds old.
    pub(crate) fn until_step(&self, task: usize, step: u64) -> Row {
        let at = |view: &View| {
            let progress = view.tasks[task].progress.as_ref();
            progress.is_some_and(|progress| progress.step >= step)
        };
        self.until("a step is taken", at).tasks[task].clone()
    }

    /// The wrapper's process.
    pub(crate) fn wrapper(&self, task: u32) -> u32 {
        let path = JobFolder::of(&self.manifest)
            .path()
            .join(format!("tasks/{task}/started.json"));
        let text = std::fs::read_to_string(path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["pid"].as_u64().unwrap() as u32
    }

    /// The experiment's process.
    pub(crate) fn experiment(&self, task: u32) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.wrapper(task));
        let text = std::fs::read_to_string(path).unwrap();
        text.split_whitespace()
            .next()
            .expect("the wrapper has a child")
            .parse()
            .unwrap()
    }

    /// Whether a task's result is that of a run which was never disturbed.
    pub(crate) fn is_undisturbed(&self, name: &str, steps: u64) -> bool {
        let text = std::fs::read_to_string(self.folder.path().join(format!("{name}.result")));
        text.is_ok_and(|text| text == undisturbed(steps))
    }

    pub(crate) fn log(&self, task: usize) -> String {
        let log = self.row(task).log.expect("it has a log");
        std::fs::read_to_string(log).unwrap()
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

pub(crate) fn states(view: &View) -> Vec<State> {
    view.states()
}

pub(crate) fn mark(path: &Path) -> Option<DataMark> {
    Some(DataMark::of(path).unwrap())
}
