//! Laws of a real Slurm of one node: munge, slurmctld, slurmd, no accounting.

use crate::Law;
use crate::job::{Plan, TestJob, resources, signal, states};
use lowbit_jobs::scheduler::Engine;
use lowbit_jobs::{Resources, State};
use std::process::Command;

pub(crate) const LAWS: &[Law] = &[
    (
        "an_array_is_split_its_stages_follow_and_a_failure_hides_nothing",
        stages,
    ),
    ("a_killed_experiment_goes_on_in_slurm", killed_experiment),
    ("a_killed_job_is_seen_as_failed_and_sent_again", killed_job),
    ("a_requeued_task_goes_on_in_slurm", requeued),
    ("a_task_whose_time_is_up_puts_itself_back", time_limit),
    ("scancel_is_not_taken_for_preemption", scancelled),
    ("cancelled_tasks_end_in_slurm", cancelled),
    (
        "a_partition_that_does_not_exist_is_said_once_in_slurm_s_words",
        no_partition,
    ),
    (
        "a_script_that_cannot_begin_has_never_started",
        never_started,
    ),
];

fn job(plans: &[Plan<'_>]) -> TestJob {
    TestJob::new(Engine::Slurm, plans)
}

fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{tool} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stages() {
    let mut plans: Vec<Plan<'_>> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| (*name, 0, 3, 20, ""))
        .collect();
    plans[1].4 = "fail";
    plans.extend([("after", 1, 1, 1, ""), ("last", 2, 1, 1, "")]);
    let job = job(&plans);
    let sent = job.submit(resources()).unwrap();
    // MaxArraySize is 4 here: 0 to 3 and 4; then one array for each later stage.
    let arrays = &sent.job.submissions[0].arrays;
    assert_eq!(
        arrays.iter().map(|array| array.offset).collect::<Vec<_>>(),
        [0, 4, 4, 4]
    );
    let view = job.until_over();
    let mut expected = [State::Done; 7];
    expected[1] = State::Failed;
    assert_eq!(states(&view), expected);
    assert_eq!(view.tasks[1].reason.as_deref(), Some("b cannot be done"));
    // The exit code of the task is that of the job.
    let id = view.tasks[1].job.clone().unwrap();
    job.until("Slurm knows the end", |_| {
        run("scontrol", &["-o", "show", "job", &id]).contains("ExitCode=3:0")
    });
    let log = view.tasks[1].log.clone().unwrap();
    assert_eq!(
        log.file_name().unwrap().to_string_lossy(),
        format!("chain_{id}.out")
    );
    assert!(job.log(1).contains("again by hand: cd "));
    let sent = job.submit(resources()).unwrap();
    assert_eq!(sent.sent, [1, 5, 6]);
    job.until_over();
    assert!(job.submit(resources()).unwrap().sent.contains(&1));
    job.until_over();
    assert_eq!(job.log(0).matches("begins behind").count(), 1);
}

fn killed_experiment() {
    let job = job(&[("a", 0, 30, 100, "")]);
    job.submit(resources()).unwrap();
    job.until_step(0, 5);
    signal(job.experiment(0), "KILL");
    let view = job.until_over();
    assert_eq!(
        (view.tasks[0].state, view.tasks[0].attempts),
        (State::Done, 2)
    );
    assert!(job.is_undisturbed("a", 30));
}

fn killed_job() {
    let job = job(&[("a", 0, 30, 100, "")]);
    job.submit(resources()).unwrap();
    job.until_step(0, 5);
    signal(job.wrapper(0), "KILL");
    let view = job.until_over();
    assert_eq!(view.tasks[0].state, State::Failed);
    assert!(
        view.tasks[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("Slurm says FAILED"),
        "{:?}",
        view.tasks[0].reason
    );
    assert_eq!(job.submit(resources()).unwrap().sent, [0]);
    assert_eq!(job.until_over().tasks[0].state, State::Done);
    assert!(job.is_undisturbed("a", 30));
}

fn requeued() {
    let job = job(&[("a", 0, 60, 100, "")]);
    job.submit(resources()).unwrap();
    let row = job.until_step(0, 5);
    run("scontrol", &["requeue", row.job.as_ref().unwrap()]);
    let view = job.until_over();
    assert_eq!(
        view.tasks[0].state,
        State::Done,
        "{:?}",
        view.tasks[0].reason
    );
    assert_eq!(view.tasks[0].attempts, 2);
    assert!(job.is_undisturbed("a", 60));
}

fn time_limit() {
    let job = job(&[("a", 0, 60, 100, "")]);
    job.submit(Resources {
        time_s: Some(5),
        ..resources()
    })
    .unwrap();
    let view = job.until_over();
    assert_eq!(
        view.tasks[0].state,
        State::Done,
        "{:?}",
        view.tasks[0].reason
    );
    assert!(view.tasks[0].attempts >= 2);
    assert!(job.is_undisturbed("a", 60));
    assert!(job.log(0).contains("its time is up"));
}

fn scancelled() {
    let job = job(&[("a", 0, 1000, 100, "")]);
    job.submit(resources()).unwrap();
    let row = job.until_step(0, 2);
    run("scancel", &[row.job.as_ref().unwrap()]);
    let view = job.until_over();
    assert_eq!(
        (view.tasks[0].state, view.tasks[0].attempts),
        (State::Cancelled, 1)
    );
}

fn cancelled() {
    let job = job(&[("a", 0, 1000, 100, ""), ("b", 1, 1, 1, "")]);
    job.submit(resources()).unwrap();
    job.until_step(0, 2);
    assert_eq!(job.cancel(None), [0, 1]);
    let view = job.until_over();
    assert_eq!(states(&view), [State::Cancelled; 2]);
    assert!(!job.folder.path().join("b.result").exists());
}

fn no_partition() {
    let job = job(&[("a", 0, 1, 1, "")]);
    let error = job
        .submit(Resources {
            partition: Some("nowhere".into()),
            ..resources()
        })
        .unwrap_err()
        .to_string();
    assert_eq!(error.matches("nowhere").count(), 1, "{error}");
    assert!(
        error.starts_with("sbatch: ") && !error.contains('\n'),
        "{error}"
    );
    // Nothing was sent, so all of it is sent again.
    assert_eq!(job.submit(resources()).unwrap().sent, [0]);
    assert_eq!(job.until_over().tasks[0].state, State::Done);
}

fn never_started() {
    let job = job(&[("a", 0, 1, 1, "")]);
    job.submit(Resources {
        setup: Some("exit 9".into()),
        ..resources()
    })
    .unwrap();
    let view = job.until_over();
    assert_eq!(
        view.tasks[0].state,
        State::NeverStarted,
        "{:?}",
        view.tasks[0].reason
    );
    assert!(
        view.tasks[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("exit code 9:0")
    );
    assert_eq!(job.submit(resources()).unwrap().sent, [0]);
    assert_eq!(job.until_over().tasks[0].state, State::Done);
}
