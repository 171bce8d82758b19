//! Outputs that are full, that nobody reads or that cannot be: one line and an exit code, or a run that goes on; never a panic.
#![cfg(target_os = "linux")]

mod common;

use common::{QUICK, command, refused, stderr, stdout};
use std::fs::File;
use std::path::Path;
use std::process::{Output, Stdio};

const MODEL: &str = "outputs/train/model_fp32.safetensors";

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// A pipe that nobody reads any longer.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run(folder: &Path, line: &str, outputs: impl FnOnce(&mut std::process::Command)) -> Output {
    let mut arguments: Vec<&str> = line.split(' ').collect();
    if let ["train" | "compare" | "sweep" | "qat-vs-ptq", ..] = arguments[..]
        && !line.contains("--help")
    {
        arguments.extend(QUICK);
    }
    let mut command = command(folder, &arguments);
    outputs(&mut command);
    command.output().unwrap()
}

/// Sweeps take long, and there is nothing to analyze without one.
fn of_a_sweep(line: &str) -> bool {
    line.starts_with("sweep") || line.starts_with("analyze")
}

/// A folder with a trained model.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), "train --quiet", |_| {});
    assert!(output.status.success(), "{}", stderr(&output));
    folder
}

/// Every command, those that train behind the others.
fn lines() -> Vec<String> {
    let model = |text: &str| text.replace("MODEL", MODEL);
    [
        "--help",
        "--version",
        "help train",
        "completions bash",
        "man",
        "man sweep",
        "inspect MODEL",
        "inspect MODEL --json",
        "eval MODEL --limit 60",
        "eval MODEL --limit 60 --json",
        "data landcover --limit 20",
        "quantize MODEL --method dynamic",
        "quantize MODEL --limit 60 --json",
        "bench MODEL",
        "train",
        "train --quiet",
        "train --json --resume",
        "compare",
        "sweep --widths 32,1",
        "analyze outputs",
        "qat-vs-ptq --seeds 1",
    ]
    .map(model)
    .to_vec()
}

#[test]
fn a_full_standard_output_is_one_line_and_exit_code_1_and_the_files_are_there() {
    let folder = trained();
    for line in lines() {
        let output = run(folder.path(), &line, |command| {
            command.stdout(full());
        });
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(
            last, "error: standard output: No space left on device (os error 28)",
            "{line}: {text}"
        );
    }
    for file in [
        "train/training_results.json",
        "train/model_int8.safetensors",
        "real_quantization_comparison/comparison_results.json",
        "report.html",
        "qat_vs_ptq_comparison/comparison_results.json",
    ] {
        assert!(folder.path().join("outputs").join(file).exists(), "{file}");
    }
}

#[test]
fn a_full_or_closed_standard_error_does_not_stop_a_run() {
    let folder = trained();
    for line in lines().into_iter().filter(|line| !of_a_sweep(line)) {
        for target in [full, closed] {
            let output = run(folder.path(), &line, |command| {
                command.stderr(target());
            });
            assert_eq!(output.status.code(), Some(0), "{line}");
            assert!(!stdout(&output).is_empty(), "{line}");
        }
    }
    // What is wrong is still told by the exit code.
    for line in ["inspect nothing", "inspect --lr 3", "--nothing"] {
        let output = run(folder.path(), line, |command| {
            command.stderr(full());
        });
        assert_eq!(output.status.code(), Some(2), "{line}");
    }
}

#[test]
fn an_output_that_nobody_reads_any_longer_ends_a_command_quietly() {
    let folder = trained();
    for line in lines().into_iter().filter(|line| !of_a_sweep(line)) {
        let output = run(folder.path(), &line, |command| {
            command.stdout(closed());
        });
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{line}: {text}");
        assert!(
            !text.contains("error") && !text.contains("panicked"),
            "{line}: {text}"
        );
    }
}

#[test]
fn the_timing_protocol_ends_when_its_output_is_full() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lines"), "fp32 1 1\nquit\n").unwrap();
    let output = run(folder.path(), "bench --serve --model mlp", |command| {
        let lines = File::open(folder.path().join("lines")).unwrap();
        command.stdin(lines).stdout(full());
    });
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let output = run(folder.path(), "bench --serve --model mlp", |command| {
        let lines = File::open(folder.path().join("lines")).unwrap();
        command.stdin(lines);
    });
    assert!(stdout(&output).starts_with("ok 0."), "{}", stdout(&output));
}

#[test]
fn what_cannot_be_written_or_chosen_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (line, part) in [
        (
            &["quantize", "m.safetensors", "-o", "none/q.safetensors"][..],
            "none/q.safetensors: lies in a folder that is not there",
        ),
        (
            &["export", "m.safetensors", "--to", "."],
            ".: is a folder; give the name of a file in it",
        ),
        (
            &["compare", "--all"],
            "--all: which images a trained model is measured on; give the model with --from",
        ),
        (&["analyze", "none"], "none: "),
    ] {
        let found = refused(path, line, 2);
        assert!(found.contains(part), "{found}");
    }
    // A model that is named as the one to compare is measured on what is chosen.
    let line = refused(path, &["compare", "--model", "m.onnx", "--all"], 2);
    assert!(line.contains("m.onnx: cannot read"), "{line}");
    // The first words of a file whose rest is missing.
    std::fs::write(path.join("m.safetensors"), [200, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
    let line = refused(path, &["inspect", "m.safetensors"], 2);
    assert!(line.contains("it is cut off"), "{line}");
}
