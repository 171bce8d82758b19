//! Laws of the local queue.

use crate::Law;
use crate::job::{TestJob, mark, resources, signal, states};
use lowbit_jobs::collect::not_done;
use lowbit_jobs::scheduler::Engine;
use lowbit_jobs::{Resources, State};
use std::process::Command;

pub(crate) const LAWS: &[Law] = &[
    (
        "stages_follow_each_other_and_a_failure_hides_nothing",
        stages,
    ),
    (
        "a_killed_experiment_goes_on_to_the_same_result",
        killed_experiment,
    ),
    (
        "a_killed_wrapper_goes_on_to_the_same_result",
        killed_wrapper,
    ),
    (
        "a_task_whose_time_is_up_goes_on_to_the_same_result",
        time_limit,
    ),
    (
        "a_time_limit_without_a_checkpoint_ends_as_timed_out",
        too_short,
    ),
    ("restarts_are_capped", capped),
    ("cancelled_tasks_end_whether_they_wait_or_run", cancelled),
    ("data_that_cannot_be_seen_are_one_clear_line", no_data),
    ("a_full_disk_is_said_and_loses_nothing", full_disk),
    ("no_more_tasks_run_than_there_may", parallel),
    (
        "a_task_that_holds_more_than_its_memory_is_ended_with_one_line",
        too_large,
    ),
];

fn job(plans: &[crate::job::Plan<'_>]) -> TestJob {
    TestJob::new(Engine::Local, plans)
}

fn stages() {
    let job = job(&[
        ("a", 0, 3, 20, ""),
        ("b", 0, 3, 20, "fail"),
        ("c", 0, 3, 20, ""),
        ("after", 1, 1, 1, ""),
        ("last", 2, 1, 1, ""),
    ]);
    let sent = job.submit(resources()).unwrap();
    assert_eq!(sent.sent, [0, 1, 2, 3, 4]);
    let view = job.until_over();
    assert_eq!(
        states(&view),
        [
            State::Done,
            State::Failed,
            State::Done,
            State::Done,
            State::Done
        ]
    );
    let missing = not_done(&view);
    assert_eq!(missing.len(), 1);
    assert!(
        missing[0].starts_with("task 1 (b) failed: b cannot be done (log "),
        "{missing:?}"
    );
    let log = job.log(1);
    for part in [
        "== task 1 of chain-",
        "settings: steps=3",
        "command: cd ",
        "error: b cannot be done",
        "== failed after",
        "again by hand: cd ",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let name = view.tasks[1]
        .log
        .as_ref()
        .unwrap()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert_eq!(name, "chain_local1_1.out");
    // What failed and what reads it, and nothing else: the others have been attempted once.
    let sent = job.submit(resources()).unwrap();
    assert_eq!((sent.sent.clone(), sent.done), (vec![1, 3, 4], 2));
    job.until_over();
    assert!(!job.log(1).is_empty());
    assert!(job.is_undisturbed("a", 3));
    assert_eq!(job.log(0).matches("begins behind").count(), 1);
}

fn killed_experiment() {
    let job = job(&[("a", 0, 30, 40, "")]);
    job.submit(resources()).unwrap();
    for step in [5, 15] {
        job.until_step(0, step);
        signal(job.experiment(0), "KILL");
    }
    let view = job.until_over();
    assert_eq!(
        (view.tasks[0].state, view.tasks[0].attempts),
        (State::Done, 3)
    );
    assert!(job.is_undisturbed("a", 30));
    assert!(job.log(0).contains("killed (signal 9)"));
}

fn killed_wrapper() {
    let job = job(&[("a", 0, 40, 40, "")]);
    job.submit(resources()).unwrap();
    job.until_step(0, 5);
    let (wrapper, experiment) = (job.wrapper(0), job.experiment(0));
    signal(wrapper, "KILL");
    let view = job.until_over();
    assert_eq!(
        (view.tasks[0].state, view.tasks[0].attempts),
        (State::Done, 2)
    );
    assert!(job.is_undisturbed("a", 40));
    // Where nobody reaps orphans, an ended one stays as a zombie.
    let status = std::fs::read_to_string(format!("/proc/{experiment}/stat"));
    assert!(status.map_or(true, |line| line.contains(") Z ")));
}

fn time_limit() {
    let job = job(&[("a", 0, 40, 100, "")]);
    job.submit(Resources {
        time_s: Some(2),
        ..resources()
    })
    .unwrap();
    let view = job.until_over();
    assert_eq!(view.tasks[0].state, State::Done);
    assert!(view.tasks[0].attempts >= 3, "{}", view.tasks[0].attempts);
    assert!(job.is_undisturbed("a", 40));
    assert!(job.log(0).contains("its time is up"));
}

fn too_short() {
    let job = job(&[("a", 0, 2, 60_000, "")]);
    job.submit(Resources {
        time_s: Some(1),
        ..resources()
    })
    .unwrap();
    let view = job.until_over();
    assert_eq!(view.tasks[0].state, State::TimedOut);
    let reason = view.tasks[0].reason.clone().unwrap();
    assert!(
        reason.contains(
            "no checkpoint within its time limit (00:00:01): submit again with a longer --time"
        ),
        "{reason}"
    );
}

fn capped() {
    let job = job(&[("a", 0, 400, 40, "")]);
    job.submit(Resources {
        max_restarts: 1,
        ..resources()
    })
    .unwrap();
    for step in [1, 10] {
        job.until_step(0, step);
        signal(job.experiment(0), "KILL");
    }
    let view = job.until_over();
    assert_eq!(view.tasks[0].state, State::Failed);
    assert!(
        view.tasks[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("gave up after 1 restarts")
    );
    job.submit(resources()).unwrap();
    job.until_step(0, 12);
    job.cancel(None);
    assert_eq!(job.until_over().tasks[0].state, State::Cancelled);
}

fn cancelled() {
    let job = job(&[
        ("a", 0, 600, 50, ""),
        ("b", 0, 600, 50, ""),
        ("c", 1, 1, 1, ""),
    ]);
    job.submit(Resources {
        max_parallel: Some(1),
        ..resources()
    })
    .unwrap();
    job.until_step(0, 2);
    assert_eq!(job.cancel(Some(&[1])), [1]);
    assert_eq!(job.row(1).state, State::Cancelled);
    assert_eq!(job.cancel(None), [0, 2]);
    let view = job.until_over();
    assert_eq!(states(&view), [State::Cancelled; 3]);
    assert_eq!(job.submit(resources()).unwrap().sent, [0, 1, 2]);
    job.cancel(None);
    job.until_over();
}

fn no_data() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("photos.zip");
    std::fs::write(&path, "images").unwrap();
    let job = TestJob::with_data(Engine::Local, &[("a", 0, 1, 1, "")], mark(&path));
    std::fs::remove_file(&path).unwrap();
    job.submit(resources()).unwrap();
    let view = job.until_over();
    assert_eq!(view.tasks[0].state, State::Failed);
    let reason = view.tasks[0].reason.clone().unwrap();
    assert!(
        reason.contains("photos.zip: cannot see the data") && reason.contains("every node"),
        "{reason}"
    );
    assert!(job.log(0).contains(&format!("error: {reason}")));
    std::fs::write(&path, "images").unwrap();
    job.submit(resources()).unwrap();
    assert_eq!(job.until_over().tasks[0].state, State::Done);
}

fn full_disk() {
    let job = job(&[("a", 0, 3, 10, "")]);
    let out = job.folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"])
        .arg(&out)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        println!("skipped: a_full_disk_is_said_and_loses_nothing (cannot mount a small disk here)");
        return;
    }
    std::fs::write(out.join("filling"), vec![0; 1 << 20]).unwrap_err();
    let error = job.submit(resources()).unwrap_err().to_string();
    assert!(
        error.contains("cannot write") && error.contains("No space left"),
        "{error}"
    );
    std::fs::remove_file(out.join("filling")).unwrap();
    job.submit(resources()).unwrap();
    assert_eq!(job.until_over().tasks[0].state, State::Done);
    assert!(
        Command::new("umount")
            .arg("-l")
            .arg(&out)
            .status()
            .unwrap()
            .success()
    );
}

fn too_large() {
    let job = job(&[("a", 0, 20, 100, "grow"), ("b", 0, 3, 10, "")]);
    job.submit(resources()).unwrap();
    let view = job.until_over();
    assert_eq!(states(&view), [State::Failed, State::Done]);
    let reason = view.tasks[0].reason.clone().unwrap();
    assert!(
        reason.starts_with("it held ")
            && reason.ends_with("its --mem is 64M: submit again with more"),
        "{reason}"
    );
    let more = Resources {
        mem_mib: 1024,
        ..resources()
    };
    assert_eq!(job.submit(more).unwrap().sent, [0]);
    assert_eq!(job.until_over().tasks[0].state, State::Done);
    assert!(job.is_undisturbed("a", 20));
}

fn parallel() {
    let names = ["a", "b", "c", "d"];
    let plans: Vec<_> = names.iter().map(|name| (*name, 0, 10, 20, "")).collect();
    let job = job(&plans);
    job.submit(Resources {
        max_parallel: Some(2),
        ..resources()
    })
    .unwrap();
    job.until("all is over, never more than two at once", |view| {
        let running = view
            .tasks
            .iter()
            .filter(|row| row.state == State::Running)
            .count();
        assert!(running <= 2);
        view.is_over()
    });
    assert!(names.iter().all(|name| job.is_undisturbed(name, 10)));
}
