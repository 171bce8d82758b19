//! Which images a model is measured on: never those that it has learned from without a word.

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::{lowbit, refused, stderr, stdout};
use photos::photos;
use serde_json::Value;
use std::path::Path;

const MODEL: &str = "out/train/model_fp32.safetensors";
const CLASSES: [&str; 4] = ["ant", "bee", "cow", "dog"];

/// Trains on `data` with `more` flags, quietly.
fn train(folder: &Path, data: &str, more: &[&str]) {
    let mut arguments = vec![
        "train", "--data", data, "--model", "mlp", "--out", "out", "-q",
    ];
    arguments.extend(more);
    let output = lowbit(folder, &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = lowbit(folder, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn eval(folder: &Path, data: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["eval", MODEL, "--data", data, "--json"];
    arguments.extend(more);
    json(folder, &arguments)
}

/// Accuracy in percent, under whichever name.
fn accuracy(results: &Value) -> f64 {
    let either = results.get("accuracy_percent").or(results.get("accuracy"));
    either.and_then(Value::as_f64).unwrap()
}

#[test]
fn the_test_images_are_those_of_the_training_whatever_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Labels mean nothing here: more than a guess is memory.
    photos(&path.join("photos"), &CLASSES, 40, 1, false);
    train(path, "photos", &["--epochs", "40", "--seed", "3"]);
    let with_seed = eval(path, "photos", &["--seed", "3"]);
    let without = eval(path, "photos", &[]);
    assert_eq!(with_seed, without);
    assert!(accuracy(&without) < 55.0, "{without}");
    assert_eq!(without["evaluated"]["images"], "test_of_training");
    assert_eq!(without["evaluated"]["count"], 32);
    assert_eq!(without["evaluated"]["possibly_seen"], 0);
    // Asked for, another split is drawn, and what was seen is counted.
    let told = eval(path, "photos", &["--split-seed", "1"]);
    let seen = told["evaluated"]["seen"].as_u64().unwrap();
    assert!((16..=32).contains(&seen), "{told}");
    assert!(accuracy(&told) > 60.0, "{told}");
    let all = eval(path, "photos", &["--all"]);
    assert_eq!(all["evaluated"]["count"], 160);
    assert_eq!(all["evaluated"]["seen"], 128);
    let output = lowbit(path, &["eval", MODEL, "--data", "photos", "--all"]);
    assert!(
        stdout(&output).contains("WARNING: 128 of them"),
        "{}",
        stdout(&output)
    );
    // The quantized model inherits what is known; its ranges come from training images.
    let quantized = "out/q.safetensors";
    let output = lowbit(
        path,
        &["quantize", MODEL, "--data", "photos", "-o", quantized],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let results = json(path, &["eval", quantized, "--data", "photos", "--json"]);
    assert_eq!(results["evaluated"], without["evaluated"]);
    let inspected = stdout(&lowbit(path, &["inspect", quantized]));
    assert!(
        inspected.contains("trained on: photos, 128 training and 32 test images")
            && inspected.contains("seed 3"),
        "{inspected}"
    );
    // So does a comparison that begins with the file.
    let compared = json(
        path,
        &[
            "compare", "--from", MODEL, "--data", "photos", "--out", "c", "--json",
        ],
    );
    assert_eq!(compared["evaluated"], without["evaluated"]);
    let float = &compared["comparison"]["fp32"];
    assert_eq!(accuracy(float), accuracy(&without));
}

#[test]
fn a_limit_of_the_training_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 40, 1, false);
    train(
        path,
        "photos",
        &["--epochs", "2", "--limit", "20", "--seed", "2"],
    );
    let results = eval(path, "photos", &[]);
    assert_eq!(results["evaluated"]["images"], "test_of_training");
    assert_eq!(results["evaluated"]["count"], 20);
}

#[test]
fn images_that_were_held_out_are_measured_whole_and_a_mixture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 20, 1, true);
    photos(&path.join("held_out"), &CLASSES, 5, 2, true);
    photos(&path.join("two_classes"), &["dog", "bee"], 5, 3, true);
    train(path, "photos", &["--epochs", "3"]);
    let held_out = eval(path, "held_out", &[]);
    assert_eq!(held_out["evaluated"]["images"], "all");
    assert_eq!(held_out["evaluated"]["count"], 20);
    assert_eq!(held_out["evaluated"]["possibly_seen"], 0);
    assert_eq!(held_out["test_images"], 20);
    let output = lowbit(path, &["eval", MODEL, "--data", "held_out"]);
    let text = stdout(&output);
    assert!(
        text.contains("all 20 images of held_out, none of them"),
        "{text}"
    );
    // Some of the classes, in the numbers that the model has for them.
    let two = eval(path, "two_classes", &[]);
    assert_eq!(two["class_names"], serde_json::json!(CLASSES));
    let images = |class: usize| {
        let row = two["confusion"][class].as_array().unwrap();
        row.iter().map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!([0, 1, 2, 3].map(images), [0, 5, 0, 5]);
    // One image more, or one that was learned from among others: refused, with the count.
    let from = |folder: &str, name: &str| path.join(folder).join(name);
    std::fs::copy(from("held_out", "ant/0.png"), from("photos", "ant/new.png")).unwrap();
    let line = refused(path, &["eval", MODEL, "--data", "photos"], 2);
    assert!(
        line.contains("64 of these 81 images")
            && line.contains("--all")
            && line.contains("--split-seed"),
        "{line}"
    );
    for index in 0..20 {
        let name = format!("ant/{index}.png");
        let to = from("held_out", &format!("ant/again{index}.png"));
        std::fs::copy(from("photos", &name), to).unwrap();
    }
    let line = refused(path, &["eval", MODEL, "--data", "held_out"], 2);
    assert!(line.contains("16 of these 40 images"), "{line}");
    let line = refused(path, &["compare", "--from", MODEL, "--data", "held_out"], 2);
    assert!(line.contains("16 of these 40 images"), "{line}");
    let line = refused(path, &["quantize", MODEL, "--data", "photos"], 2);
    assert!(line.contains("training images"), "{line}");
}

#[test]
fn classes_that_the_model_does_not_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &["ant", "bee"], 20, 1, true);
    photos(&path.join("others"), &["ant", "yak"], 5, 2, true);
    train(path, "photos", &["--epochs", "1"]);
    let line = refused(path, &["eval", MODEL, "--data", "others"], 2);
    assert!(
        line.contains("ant, bee") && line.contains("not yak of others"),
        "{line}"
    );
}

#[test]
fn a_comparison_of_images_that_were_held_out_does_not_measure_those_that_set_the_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 20, 1, true);
    photos(&path.join("held_out"), &CLASSES, 10, 2, true);
    train(path, "photos", &["--epochs", "2"]);
    let arguments = ["compare", "--from", MODEL, "--data", "held_out", "--json"];
    let compared = json(path, &arguments);
    assert_eq!(compared["evaluated"]["images"], "all_but_calibration");
    assert_eq!(compared["evaluated"]["count"], 32);
    assert_eq!(compared["data"]["train_images"], 8);
    let dynamic = json(path, &[&arguments[..], &["--method", "dynamic"]].concat());
    assert_eq!(dynamic["evaluated"]["count"], 40);
}

#[test]
fn a_federated_model_is_measured_on_the_split_of_its_training_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 20, 1, true);
    let federate = [
        "federate",
        "--data",
        "photos",
        "--model",
        "mlp",
        "--rounds",
        "2",
        "--clients",
        "2",
        "--seed",
        "3",
        "--out",
        "fed",
        "-q",
    ];
    let output = lowbit(path, &federate);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = std::fs::read_dir(path.join("fed/8bit")).unwrap().next();
    let run = run.unwrap().unwrap().path();
    for name in ["model_fp32.safetensors", "model_8bit.safetensors"] {
        let file = run.join(name).to_string_lossy().into_owned();
        let results = json(path, &["eval", &file, "--data", "photos", "--json"]);
        assert_eq!(results["evaluated"]["images"], "test_of_training");
        assert_eq!(results["evaluated"]["possibly_seen"], 0);
        assert_eq!(results["evaluated"]["count"], 16);
    }
}

#[test]
fn what_a_model_of_lowbits_says_itself_is_not_said_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 8, 1, false);
    train(path, "photos", &["--epochs", "1"]);
    std::fs::write(path.join("names.txt"), "a\nb\nc\nd\n").unwrap();
    let export = &["export", MODEL, "--to", "out.onnx"][..];
    for (arguments, expected) in [
        (
            &["eval", MODEL, "--preprocess", "imagenet"][..],
            "leave --preprocess out",
        ),
        (
            &["quantize", MODEL, "--labels", "names.txt"],
            "leave --labels out",
        ),
        (
            &["bench", MODEL, "--image-size", "7"],
            "leave --image-size out",
        ),
        (
            &[export, &["--preprocess", "half"]].concat(),
            "leave --preprocess out",
        ),
        (
            &[export, &["--reduce-range"]].concat(),
            "leave --reduce-range out",
        ),
        // Its own images are others than those that are made where none are given.
        (
            &["quantize", MODEL],
            "was trained on photos, and landcover has synthetic images",
        ),
        (
            &[
                "doctor",
                "out/train/checkpoint.safetensors",
                "--data",
                "photos",
            ],
            "is a checkpoint, which is not run on images",
        ),
    ] {
        let line = refused(path, arguments, 2);
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
    assert!(!path.join("out.onnx").exists());
    for more in [&["recommend", MODEL][..], &["train", "--from", MODEL]] {
        let line = refused(
            path,
            &[more, &["--data", "photos", "--preprocess", "unit"]].concat(),
            2,
        );
        assert!(line.contains("leave --preprocess out"), "{line}");
    }
    // A file of settings serves other models too, and a new head other images.
    std::fs::write(
        path.join("lab.toml"),
        "preprocess = \"unit\"\nimage-size = 7\n",
    )
    .unwrap();
    let inspect = ["inspect", MODEL, "--config", "lab.toml"];
    for arguments in [
        &inspect[..],
        &[
            "train",
            "--from",
            MODEL,
            "--new-head",
            "--data",
            "landcover",
            "--image-size",
            "8",
            "--limit",
            "20",
            "--epochs",
            "1",
            "--out",
            "new",
            "-q",
        ],
    ] {
        let output = lowbit(path, arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn what_changes_nothing_of_a_quantized_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 8, 1, false);
    train(path, "photos", &["--epochs", "1"]);
    let quantize = ["quantize", MODEL, "--data", "photos", "-o", "q.safetensors"];
    for (more, said) in [
        (
            &["--bits", "16", "--passes", "gptq"][..],
            "gptq have no effect",
        ),
        (
            &["--method", "dynamic", "--observer", "mse"],
            "--observer has no effect",
        ),
        (
            &["--weight-grid", "mid-rise"],
            "--weight-grid has no effect",
        ),
        (
            &[
                "--bits",
                "4",
                "--weight-grid",
                "mid-rise",
                "--passes",
                "gptq",
            ],
            "",
        ),
    ] {
        let output = lowbit(path, &[&quantize[..], more].concat());
        let text = stderr(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(said), "{more:?}: {text}");
        assert_eq!(
            text.contains("no effect"),
            !said.is_empty(),
            "{more:?}: {text}"
        );
    }
}
