//! What is said of trainings that went wrong, and of files that would be lost.

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::{lowbit, refused, stderr, stdout};
use photos::photos;
use std::path::Path;

const CLASSES: [&str; 3] = ["ant", "bee", "cow"];

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lowbit(folder, arguments);
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert!(
        !text.contains("panicked") && !text.contains("damaged"),
        "{text}"
    );
    (output.status.code(), text)
}

#[test]
fn a_training_that_diverged_gets_no_verdict_and_a_line_with_what_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("p"), &CLASSES, 20, 1, true);
    for model in ["mlp", "resnet8"] {
        for optimizer in ["sgd", "adam"] {
            for lr in ["1000", "1e20"] {
                for experiment in ["train", "compare", "qat-vs-ptq", "sweep"] {
                    if model == "resnet8" && experiment != "compare" {
                        continue;
                    }
                    let mut arguments = vec![experiment, "--data", "p", "--model", model];
                    arguments.extend(["--optimizer", optimizer, "--lr", lr, "--epochs", "2"]);
                    if experiment == "sweep" {
                        arguments.extend(["--widths", "32,8"]);
                    }
                    if experiment == "qat-vs-ptq" {
                        arguments.extend(["--seeds", "1"]);
                    }
                    let (code, text) = run(path, &arguments);
                    match code {
                        Some(0) => assert!(text.contains("No verdict: "), "{arguments:?}: {text}"),
                        Some(1) => {
                            assert!(text.contains("training diverged"), "{arguments:?}: {text}")
                        }
                        code => panic!("{code:?} {arguments:?}: {text}"),
                    }
                    assert!(text.contains("--lr"), "{arguments:?}: {text}");
                    for verdict in ["Ship INT8", "Look closer", "wins", "sweet spot"] {
                        assert!(!text.contains(verdict), "{arguments:?}: {text}");
                    }
                    let _ = std::fs::remove_dir_all(path.join("outputs"));
                }
            }
        }
    }
}

#[test]
fn every_run_of_a_sweep_that_diverged_is_named_and_ends_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for jobs in ["1", "2"] {
        let arguments = [
            &["sweep", "--lr", "1e30", "--widths", "32,8", "--seeds", "2"][..],
            &["--epochs", "1", "--limit", "100", "--model", "lenet5"],
            &["--jobs", jobs],
        ];
        let output = lowbit(folder.path(), &arguments.concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for run in [
            "32 bits, seed 1",
            "8 bits, seed 1",
            "32 bits, seed 2",
            "8 bits, seed 2",
        ] {
            assert!(text.contains(&format!("\n{run}: epoch 1")), "{run}: {text}");
        }
        assert!(text.ends_with("error: 4 of 4 runs failed\n"), "{text}");
    }
}

#[test]
fn a_model_that_guesses_gets_no_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Labels mean nothing: after one pass nobody knows more than a guess.
    photos(&path.join("p"), &CLASSES, 40, 7, false);
    let common = ["--data", "p", "--model", "mlp", "--lr", "1e-6"];
    for experiment in [
        &["train", "--epochs", "1"][..],
        &["compare", "--epochs", "1"],
        &["qat-vs-ptq", "--epochs", "1", "--seeds", "1"],
        &["sweep", "--epochs", "1", "--widths", "32,8"],
        &[
            "sweep",
            "--federated",
            "--rounds",
            "1",
            "--clients",
            "2",
            "--widths",
            "32,8",
            "--out",
            "fed",
        ],
    ] {
        let (code, text) = run(path, &[experiment, &common].concat());
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("No verdict: the ")
                && text.contains("not shown to be better than a guess"),
            "{experiment:?}: {text}"
        );
        let more = match experiment.contains(&"--federated") {
            true => "more --rounds",
            false => "more --epochs",
        };
        assert!(text.contains(more), "{text}");
    }
}

#[test]
fn a_model_that_learned_gets_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("p"), &CLASSES, 40, 1, true);
    let (code, text) = run(
        path,
        &["compare", "--data", "p", "--model", "mlp", "--epochs", "10"],
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("No verdict"), "{text}");
    assert!(
        text.contains("Ship INT8") || text.contains("Look closer"),
        "{text}"
    );
}

#[test]
fn nothing_is_written_over_what_it_is_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("p"), &CLASSES, 20, 1, true);
    let train = [
        "train", "--data", "p", "--model", "mlp", "--epochs", "1", "--out", "out", "-q",
    ];
    assert!(lowbit(path, &train).status.success());
    std::fs::copy(
        path.join("out/train/model_fp32.safetensors"),
        path.join("m.safetensors"),
    )
    .unwrap();
    let model = std::fs::read(path.join("m.safetensors")).unwrap();
    std::fs::create_dir(path.join("sub")).unwrap();
    let mut outputs = vec!["m.safetensors", "./sub/../m.safetensors", "p/ant/0.png"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(path.join("m.safetensors"), path.join("soft.safetensors"))
            .unwrap();
        std::fs::hard_link(path.join("m.safetensors"), path.join("hard.safetensors")).unwrap();
        outputs.extend(["soft.safetensors", "hard.safetensors"]);
    }
    for output in outputs {
        let arguments = ["quantize", "m.safetensors", "--data", "p", "-o", output];
        let line = refused(path, &arguments, 2);
        assert!(
            line.contains(output) && line.contains("another name"),
            "{line}"
        );
        assert_eq!(std::fs::read(path.join("m.safetensors")).unwrap(), model);
    }
    // Before anything is computed: not even the data are looked for.
    let arguments = [
        "quantize",
        "m.safetensors",
        "--data",
        "none",
        "-o",
        "m.safetensors",
    ];
    assert!(refused(path, &arguments, 2).contains("another name"));
    let dynamic = [
        "quantize",
        "m.safetensors",
        "--method",
        "dynamic",
        "-o",
        "m.safetensors",
    ];
    assert!(refused(path, &dynamic, 2).contains("another name"));
    // A contact sheet over one of the images that it shows.
    let line = refused(path, &["data", "p", "--sheet", "p/ant/1.png"], 2);
    assert!(line.contains("p/ant/1.png"), "{line}");
    // A comparison that begins with its own earlier model leaves that model alone.
    let compare = [
        "compare", "--data", "p", "--model", "mlp", "--epochs", "1", "--out", "out", "-q",
    ];
    assert!(lowbit(path, &compare).status.success());
    let file = "out/real_quantization_comparison/model_fp32.safetensors";
    let before = std::fs::metadata(path.join(file)).unwrap();
    let again = [
        "compare", "--from", file, "--data", "p", "--out", "out", "-q",
    ];
    let output = lowbit(path, &again);
    assert!(output.status.success(), "{}", stderr(&output));
    let after = std::fs::metadata(path.join(file)).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}
