//! What a user of submit, jobs, logs, cancel and collect sees, here and through this machine's own queue.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::place::Place;
use common::{names, stderr, stdout};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

const SWEEP: &str =
    "sweep --model mlp --limit 60 --image-size 16 --batch-size 16 --epochs 2 --widths 8,1";
/// A task that wants the whole machine for longer than any test.
const LONG: &str =
    "submit compare --model mlp --limit 60 --epochs 100000 --on local --cpus 1 --mem 1G --out long";

fn submit(more: &str) -> String {
    format!("submit {SWEEP} --on local --cpus 1 --mem 1G {more}")
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(
            begun.elapsed() < Duration::from_secs(200),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_sweep_is_sent_seen_read_and_collected() {
    let place = Place::new();
    let text = place.good(&submit("--out o"));
    assert!(
        text.starts_with("sweep-")
            && text.contains(": sent 4 of 4 tasks to this machine's queue; 0 done, 0 under way"),
        "{text}"
    );
    assert!(
        text.contains("lowbit jobs --watch shows them, lowbit collect waits for them"),
        "{text}"
    );
    let followed = place.good("logs 1bit_seed1 -f --out o");
    assert!(
        followed.contains("== task 1 of sweep-") && followed.contains("again by hand: cd "),
        "{followed}"
    );
    let text = place.good("jobs --watch --out o");
    let last = text.rsplit("\nsweep-").next().unwrap();
    for part in [
        ": 4 done\n",
        "task",
        "state",
        "node",
        "time",
        "reached",
        "test %",
        "8bit_seed1",
        "epoch 2/2",
        "speeds",
        "analysis",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    let jobs = place.json("jobs --out o");
    let task = &jobs[0]["tasks"][0];
    assert_eq!(
        (&task["name"], &task["state"], &task["attempts"]),
        (&"8bit_seed1".into(), &"done".into(), &1.into())
    );
    assert_eq!(task["progress"]["step"], 2);
    let name = jobs[0]["job"].as_str().unwrap();
    assert_eq!(place.json(&format!("jobs --job {name} --out o")), jobs);
    let log = place.good("logs 0 --out o");
    for part in [
        "settings: bits=8 data=landcover",
        "command: cd ",
        "lowbit 0.",
        "== done after",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let collected = place.json("collect --out o");
    assert_eq!(
        collected["widths"].as_array().map(Vec::len),
        Some(2),
        "{collected}"
    );
    assert!(place.good("collect --out o").contains("8"));
    assert!(place.path().join("o/report.html").exists());
    let text = place.good(&submit("--out o"));
    assert!(
        text.contains("nothing to send: of 4 tasks 4 done, 0 under way"),
        "{text}"
    );
    let again = place.json(&submit("--out o"));
    assert_eq!(
        (&again["sent"], &again["done"]),
        (&Value::Array(vec![]), &4.into())
    );
    assert!(place.good("cancel --out o").contains("nothing to cancel"));
    // Done is only what is still there: a model that was cut off is made again, and what reads it runs again.
    let runs = place.path().join("o/1bit");
    let model = runs.join(&names(&runs)[0]).join("model_1bit.safetensors");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, "").unwrap();
    let row = &place.tasks("o")[1];
    let why = row["reason"].as_str().unwrap();
    assert!(
        row["state"] == "lost" && why.contains("model_1bit.safetensors has 0 bytes instead of "),
        "{row}"
    );
    let text = place.good(&submit("--out o"));
    assert!(text.contains(": sent 3 of 4 tasks"), "{text}");
    place.good("collect --out o");
    assert!(std::fs::read(&model).unwrap() == bytes);
    let line = place.refused(&words("logs 9 --out o"), 2);
    assert!(
        line.contains("has tasks 0 to 3, with names such as 8bit_seed1"),
        "{line}"
    );
    let line = place.refused(&words("jobs --job other --out o"), 2);
    assert!(
        line.contains(&format!("no job other; there are {name}")),
        "{line}"
    );
}

#[test]
fn what_waits_has_no_log_what_is_cancelled_is_listed_and_the_same_submit_goes_on() {
    let place = Place::new();
    place.good(LONG);
    until("the long task runs", || place.states("long") == ["running"]);
    place.good(&submit("--out o"));
    assert_eq!(place.states("o"), ["waiting"; 4]);
    let line = place.refused(&words("logs 0 --out o"), 1);
    assert!(
        line.contains("task 0 (8bit_seed1) is waiting: it has no log yet"),
        "{line}"
    );
    let text = place.good(&submit("--out o"));
    assert!(
        text.contains("nothing to send: of 4 tasks 0 done, 4 under way"),
        "{text}"
    );
    assert!(
        place
            .good("cancel 1bit_seed1 --out o")
            .contains("cancelled task 1")
    );
    assert_eq!(place.json("cancel --out long"), serde_json::json!([0]));
    let output = place.run(&words("collect --out o"));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "task 1 (1bit_seed1) cancelled",
        "1 of 4 tasks are not done; the same `lowbit submit` again sends exactly these",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The tables hold what there is.
    assert!(place.path().join("o/report.html").exists() && stdout(&output).contains('8'));
    let sent = place.json(&submit("--out o"));
    assert_eq!(
        (&sent["sent"], &sent["done"]),
        (&serde_json::json!([1, 2, 3]), &1.into())
    );
    place.good("collect --out o");
    let output = place.run(&words("collect --out long"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn data_that_a_task_cannot_see_are_one_clear_line_and_no_more_than_a_second_submission_away() {
    let place = Place::new();
    let [photos, away] = ["photos", "away"].map(|name| place.path().join(name));
    photos::photos(&photos, &["cat", "dog"], 20, 1, true);
    place.good(LONG);
    until("the long task runs", || place.states("long") == ["running"]);
    let submit = "submit sweep --data photos --model mlp --epochs 2 --batch-size 8 --widths 8 --on local --cpus 1 --mem 1G --out o";
    place.good(submit);
    std::fs::rename(&photos, &away).unwrap();
    place.good("cancel --out long");
    let output = place.run(&words("collect --out o"));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("task 0 "))
        .unwrap_or_default();
    for part in [
        "(8bit_seed1) failed: ",
        "photos: cannot see the data",
        "every node",
        "(log ",
    ] {
        assert!(line.contains(part), "{part}: {text}");
    }
    let line = place.refused(&words(submit), 2);
    assert!(line.contains("photos: cannot see the data"), "{line}");
    std::fs::rename(&away, &photos).unwrap();
    assert_eq!(place.json(submit)["sent"], serde_json::json!([0, 1, 2]));
    place.good("collect --out o");
}

#[test]
fn a_machine_without_slurm_says_where_tasks_run_instead() {
    let place = Place::new();
    let run = |line: &str| {
        let mut command = place.command(&words(line));
        command.env("PATH", place.path()).output().unwrap()
    };
    let output = run("submit sweep --on slurm --out o");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(
        text.trim_end(),
        "error: sbatch is not on the PATH: this machine submits to no Slurm; use --on local to run the tasks here"
    );
    let output = run(&format!("submit {SWEEP} --dry-run --out o"));
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("no sbatch on the PATH: the tasks go to this machine's own queue")
    );
    assert!(!place.path().join("o").exists());
}

#[test]
fn a_dry_run_prints_script_and_manifest_and_sends_nothing() {
    let place = Place::new();
    let text = place.good(&format!(
        "submit {SWEEP} --seeds 2 --on slurm --time 1:30:00 --gpus 1 --max-parallel 3 --dry-run --out o"
    ));
    for part in [
        "#SBATCH --array=0-3%3",
        "#SBATCH --time=01:30:00",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --mem=4096M",
        "#SBATCH --requeue",
        "#SBATCH --kill-on-invalid-dep=yes",
        "#SBATCH --exclusive",
        "--dependency=afterany:",
        "# task 5, analysis\n",
        "--set batch_size=16",
        "manifest.jsonl",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("#!/bin/sh").count(), 3);
    assert!(!place.path().join("o").exists());
}

#[test]
fn a_job_of_another_version_is_finished_by_that_version() {
    let place = Place::new();
    place.good(&submit("--out o"));
    place.good("collect --out o --quiet");
    let manifest = place.job("o").join("manifest.jsonl");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mine = format!("\"lowbit\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&mine));
    std::fs::write(&manifest, text.replacen(&mine, "\"lowbit\":\"0.0.9\"", 1)).unwrap();
    for line in [
        submit("--out o"),
        "logs 0 --out o".into(),
        "collect --out o".into(),
        "jobs --out o".into(),
        "cancel --out o".into(),
    ] {
        let found = place.refused(&words(&line), 2);
        assert!(
            found.contains("written by lowbit 0.0.9")
                && found.contains("finish it with that version"),
            "{line}: {found}"
        );
    }
    // It does not hide the others.
    place.good(&submit("--out o --seed 7"));
    place.good("collect --out o --quiet");
    let output = place.run(&words("jobs --out o --json"));
    assert!(
        output.status.success() && stderr(&output).contains("written by lowbit 0.0.9"),
        "{}",
        stderr(&output)
    );
    let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(jobs.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_full_disk_is_one_line() {
    let place = Place::new();
    place.good(&submit("--out o"));
    place.good("collect --out o --quiet");
    for line in [
        "jobs --out o",
        "jobs --out o --json",
        "logs 0 --out o",
        "cancel --out o",
        "collect --out o",
    ] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = place.command(&words(line)).stdout(full).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {text}");
        assert!(
            text.contains("No space left on device") && !text.contains("panicked"),
            "{line}: {text}"
        );
    }
    let small = place.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"])
        .arg(&small);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        println!("skipped: half of a_full_disk_is_one_line (cannot mount a small disk here)");
        return;
    }
    let _ = std::fs::write(small.join("filling"), vec![0; 1 << 16]);
    let output = place.run(&words(&submit("--out small/o")));
    let unmounted = Command::new("umount").arg("-l").arg(&small).status();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("cannot write: No space left on device") && text.lines().count() == 1,
        "{text}"
    );
    assert!(unmounted.unwrap().success());
}

#[test]
fn no_more_tasks_run_than_fit_into_cores_and_memory() {
    let cores = std::thread::available_parallelism().unwrap();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    // More than half of what the queue has: two do not fit.
    let most = kib / 1024 * 6 / 10;
    for (out, share) in [
        ("cores", format!("--cpus {cores} --mem 1G")),
        ("memory", format!("--cpus 1 --mem {most}M")),
    ] {
        let place = Place::new();
        place.good(&format!(
            "submit {SWEEP} --seeds 2 --on local {share} --out {out}"
        ));
        until("all is over", || {
            let states = place.states(out);
            assert!(
                states.iter().filter(|state| *state == "running").count() <= 1,
                "{states:?}"
            );
            states.iter().all(|state| state == "done")
        });
    }
}

#[test]
fn a_queue_ends_when_its_folder_is_gone() {
    let place = Place::new();
    place.good("submit sweep --model mlp --limit 60 --image-size 16 --epochs 2000 --widths 8 --on local --cpus 1 --mem 1G --out o");
    place.disturb("o", 0, 1, |wrapper, experiment| {
        let queue = queue_of(&place);
        std::fs::remove_dir_all(place.path().join("queue")).unwrap();
        // Nobody serves the task any more.
        for process in [wrapper, experiment] {
            common::place::signal(process, "KILL");
        }
        until("the queue has ended", || !is_alive(queue));
        true
    });
}

/// The process that serves the queue of a place.
fn queue_of(place: &Place) -> u32 {
    let log = std::fs::read_to_string(place.path().join("queue/queue.log")).unwrap();
    let last = log.rsplit("queue ").next().unwrap();
    last.split(' ').next().unwrap().parse().unwrap()
}

/// Whether a process is there, and no zombie.
fn is_alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim().starts_with('Z'))
    })
}

#[test]
fn after_a_restart_of_the_machine_the_same_submit_goes_on() {
    let place = Place::new();
    let submit = "submit sweep --model mlp --limit 60 --image-size 16 --batch-size 16 --epochs 200 --widths 8 --on local --cpus 1 --mem 1G --out o";
    place.good(submit);
    place.disturb("o", 0, 3, |wrapper, experiment| {
        let queue = queue_of(&place);
        // The queue first: it would start anew what has been killed.
        [queue, wrapper, experiment]
            .iter()
            .all(|&process| common::place::signal(process, "KILL"))
    });
    let killed = Instant::now();
    until("it is seen", || place.states("o")[0] == "lost");
    // A queue that has begun a task is not waited for as one that is about to.
    assert!(killed.elapsed() < Duration::from_secs(5));
    assert_eq!(place.states("o")[1..], ["never_started"; 2]);
    let why = place.tasks("o")[0]["reason"].as_str().unwrap().to_owned();
    assert!(why.contains("submit again to go on"), "{why}");
    let checkpoints = place.record("o", 0, "progress").unwrap()["checkpoints"].as_u64();
    place.good(submit);
    place.good("collect --out o --quiet");
    assert!(place.log("o", 0).contains("goes on behind checkpoint "));
    let all = place.record("o", 0, "progress").unwrap()["checkpoints"].as_u64();
    // Behind the last checkpoint, and not from the beginning.
    assert!(
        all < checkpoints.map(|count| count + 200),
        "{checkpoints:?} {all:?}"
    );
}
