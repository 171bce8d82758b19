//! Runs that are not the same are not taken for the same: in tables, in checkpoints, in folders.

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::{command, lowbit, names, refused, stderr, stdout};
use photos::photos;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

const QUICK: [&str; 6] = ["--model", "mlp", "--epochs", "3", "--threads", "1"];

fn sweep(folder: &Path, data: &str, more: &[&str]) -> String {
    let mut arguments = vec!["sweep", "--data", data, "--widths", "32,8", "--out", "out"];
    arguments.extend(QUICK);
    arguments.extend(more);
    let output = lowbit(folder, &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn summary(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("out/results_summary.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn runs(summary: &Value) -> Vec<u64> {
    let rows = summary["widths"].as_array().unwrap();
    rows.iter()
        .map(|row| row["runs"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_sweep_shows_its_own_runs_and_says_what_else_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("easy"), &["a", "b"], 20, 1, true);
    photos(&path.join("hard"), &["w", "x", "y"], 20, 2, false);
    let first = sweep(path, "easy", &[]);
    assert!(
        first.contains("mlp on easy") && !first.contains("not shown"),
        "{first}"
    );
    let second = sweep(path, "hard", &[]);
    assert!(second.contains("mlp on hard"), "{second}");
    assert!(
        second.contains("not shown: 2 runs of mlp on easy"),
        "{second}"
    );
    let found = summary(path);
    assert_eq!(runs(&found), [1, 1]);
    assert!(found["title"].as_str().unwrap().starts_with("mlp on hard"));
    let page = std::fs::read_to_string(path.join("out/report.html")).unwrap();
    assert!(page.contains("<title>lowbit: mlp on hard"), "title");
    // Another recipe is another sweep, too.
    let third = sweep(path, "hard", &["--lr", "0.01"]);
    assert!(
        third.contains("2 runs of mlp on easy") && third.contains("2 runs of mlp on hard"),
        "{third}"
    );
    assert_eq!(runs(&summary(path)), [1, 1]);
    // `analyze` shows all of them, each in a table of its own.
    let output = lowbit(path, &["analyze", "out"]);
    let text = stdout(&output);
    assert_eq!(text.matches("mlp on ").count(), 3, "{text}");
    let found = summary(path);
    assert_eq!(found["others"].as_array().unwrap().len(), 2);
    assert!(found["title"].as_str().unwrap().contains("lr 0.01"));
    for table in found["others"].as_array().unwrap() {
        assert_eq!(runs(table), [1, 1]);
    }
}

#[test]
fn renaming_a_folder_or_asking_for_threads_trains_nothing_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("easy"), &["a", "b"], 20, 1, true);
    sweep(path, "easy", &[]);
    std::fs::rename(path.join("easy"), path.join("renamed")).unwrap();
    let mut arguments = vec![
        "sweep", "--data", "renamed", "--widths", "32,8", "--out", "out",
    ];
    arguments.extend(["--model", "mlp", "--epochs", "3", "--threads", "2"]);
    arguments.extend(["--observer", "mse", "--calibration-images", "7"]);
    let has = |flag: &str| stdout(&lowbit(path, &["sweep", "--help"])).contains(flag);
    if !has("--observer") {
        arguments.truncate(arguments.len() - 4);
    }
    let output = lowbit(path, &arguments);
    let text = stderr(&output);
    assert_eq!(text.matches("finished earlier").count(), 2, "{text}");
    assert_eq!(names(&path.join("out/8bit")).len(), 1);
    // One pixel that differs is other data.
    let pixels: Vec<u8> = (0..192).map(|at| at as u8).collect();
    photos::png(&path.join("renamed/a/0.png"), &pixels);
    let output = lowbit(path, &arguments);
    assert_eq!(stderr(&output).matches("finished earlier").count(), 0);
    assert_eq!(names(&path.join("out/8bit")).len(), 2);
}

#[test]
fn a_run_folder_is_named_by_what_decides_and_says_what_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("easy"), &["a", "b"], 20, 1, true);
    sweep(path, "easy", &[]);
    let run = names(&path.join("out/8bit")).remove(0);
    assert!(run.starts_with("run_") && run.ends_with("_seed1"), "{run}");
    let list = path.join("out/8bit").join(&run).join("decisive.json");
    let list: Value = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
    assert_eq!(list["classes"], "a, b");
    assert_eq!(list["bits"], "8");
    assert_eq!(list["data"].as_str().unwrap().len(), 32);
}

#[test]
fn a_checkpoint_of_other_classes_images_or_sizes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("p"), &["ant", "bee"], 20, 1, true);
    let train = |more: &[&'static str]| {
        let mut arguments = vec!["train", "--data", "p", "--out", "out", "-q"];
        arguments.extend(QUICK);
        arguments.extend(more);
        arguments
    };
    let output = lowbit(path, &train(&[]));
    assert!(output.status.success(), "{}", stderr(&output));
    let output = lowbit(path, &train(&["--resume"]));
    assert!(output.status.success(), "{}", stderr(&output));
    let line = refused(path, &train(&["--resume", "--image-size", "4"]), 2);
    assert!(
        line.contains("input = 8×8×3") && line.contains("4×4×3"),
        "{line}"
    );
    let line = refused(path, &train(&["--resume", "--seed", "2"]), 2);
    assert!(
        line.contains("(seed 1)") && line.contains("(seed 2)"),
        "{line}"
    );
    std::fs::rename(path.join("p/ant"), path.join("p/zebra")).unwrap();
    let line = refused(path, &train(&["--resume"]), 2);
    assert!(
        line.contains("classes = ant, bee, this run has bee, zebra"),
        "{line}"
    );
    std::fs::rename(path.join("p/zebra"), path.join("p/ant")).unwrap();
    // The same names, other pixels.
    photos(&path.join("p"), &["ant", "bee"], 20, 2, true);
    let line = refused(path, &train(&["--resume"]), 2);
    assert!(line.contains("made with data = "), "{line}");
    let line = refused(path, &train(&["--resume", "--lr", "0.1"]), 2);
    assert!(line.contains("made with data = "), "{line}");
}

#[test]
fn a_second_process_in_one_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("p"), &["ant", "bee"], 40, 1, true);
    for experiment in ["train", "compare", "qat-vs-ptq", "sweep"] {
        let mut arguments = vec![experiment, "--data", "p", "--out", "out", "-q"];
        arguments.extend(["--model", "mlp", "--epochs", "100000", "--threads", "1"]);
        let mut first = command(path, &arguments).spawn().unwrap();
        let begun = Instant::now();
        let started = || {
            let out = path.join("out");
            let mut folders = vec![out.clone()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                    if entry
                        .file_name()
                        .to_string_lossy()
                        .starts_with("checkpoint")
                    {
                        return true;
                    }
                    if entry.path().is_dir() {
                        folders.push(entry.path());
                    }
                }
            }
            false
        };
        while !started() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(started(), "{experiment} does not begin");
        let line = refused(path, &arguments, 1);
        assert!(
            line.contains("out") && line.contains("another lowbit is writing here"),
            "{experiment}: {line}"
        );
        assert!(first.try_wait().unwrap().is_none(), "{experiment} goes on");
        // A killed process leaves no lock behind.
        first.kill().unwrap();
        first.wait().unwrap();
        let mut short = arguments.clone();
        let at = short.iter().position(|&a| a == "100000").unwrap();
        short[at] = "1";
        let output = lowbit(path, &short);
        assert!(output.status.success(), "{experiment}: {}", stderr(&output));
        std::fs::remove_dir_all(path.join("out")).unwrap();
    }
}
