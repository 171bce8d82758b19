//! Laws about what one node cannot provoke: stand-ins for Slurm's commands that count their calls and say what a cluster
//! in trouble says.

use crate::Law;
use crate::job::{TestJob, resources};
use lowbit_jobs::scheduler::{Engine, Job, Look, Scheduler};
use lowbit_jobs::slurm::{Queries, Slurm};
use lowbit_jobs::submit::submit;
use lowbit_jobs::view::view;
use lowbit_jobs::{JobError, State};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

pub(crate) const LAWS: &[Law] = &[("a_cluster_in_trouble", all)];

/// Each of them in a process of its own, with the stand-ins on its PATH.
fn all() {
    if std::env::var_os("STANDIN").is_some() {
        return inner();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("laws-of-the-fakes")
        .env("STANDIN", folder.path())
        .env("PATH", path)
        .status();
    assert!(status.unwrap().success());
}

fn inner() {
    let tools = PathBuf::from(std::env::var_os("STANDIN").unwrap());
    thousand_tasks_are_one_question(&tools);
    an_sbatch_that_was_not_heard_is_not_sent_twice(&tools);
    an_empty_answer_is_asked_again_and_a_silent_controller_is_no_failure(&tools);
    a_preempted_task_waits_to_be_brought_back(&tools);
    a_squeue_without_json_is_replaced_by_scontrol(&tools);
}

fn tool(tools: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = tools.join(name);
    let text = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/{name}.calls\n{script}\n",
        tools.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let _ = std::fs::remove_file(tools.join(format!("{name}.calls")));
}

fn calls(tools: &Path, name: &str) -> usize {
    std::fs::read_to_string(tools.join(format!("{name}.calls")))
        .map_or(0, |text| text.lines().count())
}

/// Slurm with answers of its own.
struct Standing {
    job: TestJob,
    queries: PathBuf,
}

impl Standing {
    fn new(count: usize) -> Self {
        let names: Vec<String> = (0..count).map(|index| format!("t{index}")).collect();
        let plans: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), 0, 1, 1, ""))
            .collect();
        let job = TestJob::new(Engine::Slurm, &plans);
        let queries = job.folder.path().join("answers.json");
        Self { job, queries }
    }

    fn open(&self) -> impl Fn(Engine) -> Result<Box<dyn Scheduler>, JobError> + use<> {
        let file = self.queries.clone();
        move |_| Ok(Box::new(Slurm::with_queries(Queries::at(file.clone()))))
    }

    fn submit(&self) -> Result<Job, JobError> {
        submit(
            self.job.manifest.clone(),
            Engine::Slurm,
            resources(),
            &self.open(),
        )
        .map(|sent| sent.job)
    }

    /// As if so many seconds had passed since Slurm was asked.
    fn later(&self, seconds: u64) {
        let text = std::fs::read_to_string(&self.queries).unwrap();
        let mut answers: serde_json::Value = serde_json::from_str(&text).unwrap();
        let asked = answers["asked"].as_u64().unwrap();
        answers["asked"] = asked.saturating_sub(seconds).into();
        std::fs::write(&self.queries, answers.to_string()).unwrap();
    }

    fn state(&self, job: &Job) -> (State, String) {
        let row = &view(job, &self.open()).tasks[0];
        (row.state, row.reason.clone().unwrap_or_default())
    }
}

fn thousand_tasks_are_one_question(tools: &Path) {
    tool(tools, "scontrol", "echo 'MaxArraySize = 1001'");
    tool(tools, "sbatch", "cat > /dev/null; echo 70");
    tool(
        tools,
        "squeue",
        r#"echo '{"jobs": [{"job_id": 70, "array_job_id": 70, "array_task_string": "0-999", "job_state": "PENDING", "state_reason": "Priority"}]}'"#,
    );
    let standing = Standing::new(1000);
    let job = standing.submit().unwrap();
    assert_eq!(calls(tools, "sbatch"), 1);
    let mut slowest = 0.0_f64;
    for _ in 0..5 {
        let begun = Instant::now();
        let view = view(&Job::open(job.folder.clone()).unwrap(), &standing.open());
        slowest = slowest.max(begun.elapsed().as_secs_f64());
        assert!(view.tasks.iter().all(|row| row.state == State::Waiting && row.reason.as_deref() == Some("Priority")));
    }
    println!("a view of 1,000 waiting tasks: {slowest:.3} s at most");
    // With all the records that tasks at work have.
    for index in 0..1000 {
        let task = job.folder.path().join(format!("tasks/{index}"));
        let started = r#"{"attempt": 2, "idle": 0, "checkpoints": 3, "host": "n1", "pid": 1, "job": "70_1", "log": null, "unix": 5, "interrupted": null}"#;
        let progress = r#"{"checkpoints": 4, "step": 4, "steps": 9, "unit": "epoch", "accuracy": 0.5, "unix": 5}"#;
        std::fs::write(task.join("started.json"), started).unwrap();
        std::fs::write(task.join("progress.json"), progress).unwrap();
    }
    let begun = Instant::now();
    let seen = view(&Job::open(job.folder.clone()).unwrap(), &standing.open());
    let took = begun.elapsed().as_secs_f64();
    assert!(
        seen.tasks
            .iter()
            .all(|row| row.progress.as_ref().is_some_and(|at| at.step == 4))
    );
    println!("a view of 1,000 tasks with records: {took:.3} s");
    slowest = slowest.max(took);
    assert!(slowest < 1.0, "{slowest}");
    assert_eq!(calls(tools, "squeue"), 1);
    standing.later(10);
    let _ = view(&job, &standing.open());
    assert_eq!(calls(tools, "squeue"), 2);
}

fn an_sbatch_that_was_not_heard_is_not_sent_twice(tools: &Path) {
    // It was heard, though it does not know.
    tool(
        tools,
        "sbatch",
        "cat > /dev/null; echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
    );
    tool(
        tools,
        "squeue",
        r#"case "$*" in *--name*) echo 71;; *) echo '{"jobs": []}';; esac"#,
    );
    let standing = Standing::new(2);
    let job = standing.submit().unwrap();
    assert_eq!(job.submissions[0].arrays[0].id, "71");
    assert_eq!(calls(tools, "sbatch"), 1);
}

fn an_empty_answer_is_asked_again_and_a_silent_controller_is_no_failure(tools: &Path) {
    tool(tools, "sbatch", "cat > /dev/null; echo 72");
    tool(tools, "squeue", r#"echo '{"jobs": []}'"#);
    tool(
        tools,
        "sacct",
        "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    );
    let standing = Standing::new(1);
    let job = standing.submit().unwrap();
    assert_eq!(standing.state(&job).0, State::Unknown);
    assert_eq!(job_again(&standing), Vec::<u32>::new());
    tool(
        tools,
        "squeue",
        "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
    );
    for _ in 0..4 {
        standing.later(60);
        let (state, reason) = standing.state(&job);
        assert_eq!(state, State::Unknown, "{reason}");
    }
    // It comes back, and so does the task.
    tool(
        tools,
        "squeue",
        r#"echo '{"jobs": [{"job_id": 72, "array_job_id": 72, "array_task_id": 0, "job_state": "RUNNING", "nodes": "n7"}]}'"#,
    );
    standing.later(60);
    assert_eq!(standing.state(&job).0, State::Running);
}

/// A second submission while nothing is known sends nothing.
fn job_again(standing: &Standing) -> Vec<u32> {
    submit(
        standing.job.manifest.clone(),
        Engine::Slurm,
        resources(),
        &standing.open(),
    )
    .unwrap()
    .sent
}

fn a_preempted_task_waits_to_be_brought_back(tools: &Path) {
    tool(tools, "sbatch", "cat > /dev/null; echo 73");
    let says = |state: &str| {
        format!(
            r#"echo '{{"jobs": [{{"job_id": 73, "array_job_id": 73, "array_task_id": 0, "job_state": ["{state}"], "exit_code": {{"return_code": {{"number": 0}}}}}}]}}'"#
        )
    };
    let standing = Standing::new(1);
    tool(tools, "squeue", &says("PREEMPTED"));
    let job = standing.submit().unwrap();
    assert_eq!(
        standing.state(&job),
        (
            State::Waiting,
            "Slurm says PREEMPTED; the scheduler may bring it back".into()
        )
    );
    tool(tools, "squeue", &says("NODE_FAIL"));
    standing.later(10);
    assert_eq!(standing.state(&job).0, State::Waiting);
    tool(tools, "squeue", &says("PENDING"));
    standing.later(10);
    assert_eq!(standing.state(&job).0, State::Waiting);
}

fn a_squeue_without_json_is_replaced_by_scontrol(tools: &Path) {
    tool(tools, "sbatch", "cat > /dev/null; echo 74");
    tool(
        tools,
        "squeue",
        "echo \"squeue: unrecognized option '--json'\" >&2; exit 1",
    );
    tool(
        tools,
        "scontrol",
        "case \"$*\" in *config*) echo 'MaxArraySize = 1001';; *) echo 'JobId=75 ArrayJobId=74 ArrayTaskId=0 JobState=RUNNING NodeList=n8';; esac",
    );
    let standing = Standing::new(1);
    let job = standing.submit().unwrap();
    assert!(matches!(
        Slurm::with_queries(Queries::at(standing.queries.clone())).look(&job),
        Look::Unasked { .. }
    ));
    standing.later(60);
    let view = view(&job, &standing.open());
    assert_eq!(
        (view.tasks[0].state, view.tasks[0].node.as_deref()),
        (State::Running, Some("n8"))
    );
}
