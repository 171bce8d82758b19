//! A folder with a queue, a cache and a site of its own, from which experiments are sent away.

use super::cluster::Cluster;
use super::{command, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Place {
    folder: TempDir,
    slurm: Option<Cluster>,
}

impl Place {
    /// Without a Slurm, unless the machine has one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            slurm: None,
        }
    }

    /// With a Slurm of its own; none, with a line that says why, where it cannot be started.
    pub fn with_slurm(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        match Cluster::start(&folder.path().join("slurm")) {
            Ok(cluster) => Some(Self {
                folder,
                slurm: Some(cluster),
            }),
            Err(why) => {
                println!("skipped: {test} ({why})");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of its Slurm.
    pub fn slurm(&self) -> &Path {
        &self.slurm.as_ref().expect("it has a Slurm").folder
    }

    /// A command of any program, with this place's surroundings.
    pub fn surround(&self, command: &mut Command) {
        command
            .current_dir(self.path())
            .env("LOWBIT_QUEUE", self.path().join("queue"))
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env_remove("LOWBIT_SITE")
            .env_remove("LOWBIT_TASK")
            .env_remove("SLURM_CONF");
        if let Some(cluster) = &self.slurm {
            command.env("SLURM_CONF", &cluster.conf);
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.path(), arguments);
        self.surround(&mut command);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Runs words that are separated by spaces, and returns standard output.
    pub fn good(&self, line: &str) -> String {
        let output = self.run(&line.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        stdout(&output)
    }

    /// The same with `--json`, whose standard output is JSON and nothing else.
    pub fn json(&self, line: &str) -> Value {
        let text = self.good(&format!("{line} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// Runs to an error of one line and returns the line.
    pub fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(text.matches("error:").count(), 1, "{arguments:?}: {text}");
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("error: "), "{arguments:?}: {text}");
        last
    }

    /// Calls a tool of Slurm and returns what it says.
    pub fn tool(&self, tool: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(tool);
        self.surround(command.args(arguments));
        let output = command.output().expect("the tool starts");
        match output.status.success() {
            true => Ok(stdout(&output)),
            false => Err(stderr(&output)),
        }
    }

    /// The folder of the only job below `out`.
    pub fn job(&self, out: &str) -> PathBuf {
        let jobs = self.path().join(out).join("jobs");
        let mut all = std::fs::read_dir(&jobs).unwrap();
        let job = all.next().expect("there is a job").unwrap().path();
        assert!(all.next().is_none(), "one job in {}", jobs.display());
        job
    }

    /// What `lowbit jobs` says of the only job's tasks.
    pub fn tasks(&self, out: &str) -> Vec<Value> {
        let jobs = self.json(&format!("jobs --out {out}"));
        jobs[0]["tasks"].as_array().expect("tasks").clone()
    }

    pub fn states(&self, out: &str) -> Vec<String> {
        let state = |task: Value| task["state"].as_str().unwrap().to_owned();
        self.tasks(out).into_iter().map(state).collect()
    }

    /// A record of a task, read from its own folder.
    pub fn record(&self, out: &str, task: u32, name: &str) -> Option<Value> {
        let path = self.job(out).join(format!("tasks/{task}/{name}.json"));
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Waits until a task has written so many checkpoints, does something to its wrapper and its experiment, and says so if
    /// it could.
    pub fn disturb(&self, out: &str, task: u32, checkpoints: u64, what: impl Fn(u32, u32) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(200) {
            assert!(
                self.record(out, task, "outcome").is_none(),
                "task {task} ended before it could be disturbed"
            );
            let progress = self.record(out, task, "progress");
            let reached =
                progress.is_some_and(|at| at["checkpoints"].as_u64() >= Some(checkpoints));
            if reached
                && let Some((wrapper, experiment)) = self.processes(out, task)
                && what(wrapper, experiment)
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("task {task} could not be disturbed: {:?}", self.tasks(out));
    }

    /// A task's wrapper and experiment, while both are at work.
    fn processes(&self, out: &str, task: u32) -> Option<(u32, u32)> {
        let wrapper = self.record(out, task, "started")?["pid"].as_u64()? as u32;
        let line = std::fs::read(format!("/proc/{wrapper}/cmdline")).ok()?;
        if !line.split(|&byte| byte == 0).any(|word| word == b"task") {
            return None;
        }
        let children = std::fs::read_to_string(format!("/proc/{wrapper}/task/{wrapper}/children"));
        let child = children.ok()?.split_whitespace().next()?.parse().ok()?;
        Some((wrapper, child))
    }

    /// All logs of a job's task, one behind the other.
    pub fn log(&self, out: &str, task: u32) -> String {
        let mut logs: Vec<_> = std::fs::read_dir(self.job(out).join("logs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        logs.sort();
        let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        let head = format!("== task {task} of ");
        logs.iter()
            .map(read)
            .filter(|text| text.contains(&head))
            .collect()
    }
}

/// Sends a signal, and says whether the process was there.
pub fn signal(process: u32, name: &str) -> bool {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
    status.unwrap().success()
}
