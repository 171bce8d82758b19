//! A model that another program made, through the commands: `bench/onnx/colors.py` writes it.

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::{lowbit, refused, stderr, stdout};
use photos::photos;
use serde_json::Value;
use std::path::Path;

const CLASSES: [&str; 3] = ["ant", "bee", "cow"];
const MODEL: &str = "colors.onnx";

/// A folder with the model and photos whose colors it knows.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/colors.onnx");
    std::fs::copy(fixture, folder.path().join(MODEL)).unwrap();
    photos(&folder.path().join("photos"), &CLASSES, 20, 1, true);
    folder
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = lowbit(folder, arguments);
    let error = stderr(&output);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_foreign_model_is_read_measured_and_quantized() {
    let folder = place();
    let path = folder.path();
    let shown = stdout(&lowbit(path, &["inspect", MODEL]));
    assert!(shown.contains("8×8×3"), "{shown}");
    let flags = ["--data", "photos", "--preprocess", "none"];
    let found = json(
        path,
        &[&["eval", MODEL, "--json", "--all"], &flags[..]].concat(),
    );
    assert_eq!(found["accuracy_percent"], 100.0, "{found}");
    assert_eq!(found["evaluated"]["count"], 60, "{found}");
    let compared = [
        &["compare", "--model", MODEL, "--out", "out", "--json"],
        &flags[..],
    ]
    .concat();
    let found = json(path, &compared);
    for precision in ["fp32", "int8"] {
        let accuracy = &found["comparison"][precision]["accuracy_percent"];
        assert_eq!(accuracy, 100.0, "{precision}: {found}");
    }
    // What is written is a file of lowbit's, with integers in it.
    let quantized = [&["quantize", MODEL, "-o", "q.safetensors"], &flags[..]].concat();
    let output = lowbit(path, &quantized);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = json(
        path,
        &[
            "eval",
            "q.safetensors",
            "--data",
            "photos",
            "--all",
            "--json",
        ],
    );
    assert_eq!(found["accuracy_percent"], 100.0, "{found}");
    assert_eq!(found["kind"], "integer", "{found}");
}

#[test]
fn a_model_goes_out_as_onnx_and_never_over_what_it_came_from() {
    let folder = place();
    let path = folder.path();
    let flags = ["--data", "photos", "--preprocess", "none"];
    let quantized = [&["quantize", MODEL, "-o", "q.safetensors"], &flags[..]].concat();
    let output = lowbit(path, &quantized);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = json(
        path,
        &["export", "q.safetensors", "--to", "q.onnx", "--json"],
    );
    assert_eq!(found["opset"], 13, "{found}");
    let bytes = std::fs::read(path.join("q.onnx")).unwrap();
    assert_eq!(found["output_bytes"], bytes.len(), "{found}");
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has("QuantizeLinear") && has("logits"));
    // What goes out in f32 comes back as the same function.
    let export = [
        "export",
        MODEL,
        "--preprocess",
        "none",
        "--to",
        "again.onnx",
    ];
    assert!(lowbit(path, &export).status.success());
    let eval = ["eval", "again.onnx", "--all", "--json"];
    let found = json(path, &[&eval, &flags[..]].concat());
    assert_eq!(found["accuracy_percent"], 100.0, "{found}");
    let line = refused(path, &["export", MODEL, "--to", MODEL], 2);
    assert!(line.contains(MODEL), "{line}");
    let line = refused(path, &["export", MODEL, "--to", "x.safetensors"], 2);
    assert!(line.contains(".onnx"), "{line}");
}

#[test]
fn training_goes_on_from_a_foreign_model_for_its_classes_and_for_others() {
    let folder = place();
    let path = folder.path();
    let more = [
        "--from",
        MODEL,
        "--preprocess",
        "none",
        "--epochs",
        "2",
        "--lr",
        "1e-4",
        "--json",
    ];
    fn train<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["train", "--data", data], more].concat()
    }
    let found = json(path, &train("photos", &more));
    assert_eq!(found["from"]["test_accuracy"], 1.0, "{found}");
    assert_eq!(found["from"]["evaluated"]["count"], 12, "{found}");
    assert_eq!(found["final_test_accuracy"], 1.0, "{found}");
    // Other classes want another last layer, and that begins anew.
    photos(&path.join("two"), &CLASSES[..2], 20, 1, true);
    let line = refused(path, &train("two", &more), 2);
    assert!(line.contains("--new-head"), "{line}");
    let found = json(path, &train("two", &[&more[..], &["--new-head"]].concat()));
    assert_eq!(
        found["data"]["class_names"],
        serde_json::json!(["ant", "bee"])
    );
    let before = found["from"]["test_accuracy"].as_f64().unwrap();
    assert!(before < 1.0, "{found}");
    let eval = [
        "eval",
        "outputs/train/model_fp32.safetensors",
        "--data",
        "two",
        "--all",
        "--json",
    ];
    assert_eq!(json(path, &eval)["evaluated"]["count"], 40);
    let unsaid: Vec<&str> = more
        .iter()
        .copied()
        .filter(|word| !["--preprocess", "none"].contains(word))
        .collect();
    let line = refused(
        path,
        &train("two", &[&unsaid[..], &["--new-head"]].concat()),
        2,
    );
    assert!(line.contains("--preprocess"), "{line}");
    let output = lowbit(path, &train("photos", &["--new-head"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--from"), "{}", stderr(&output));
    // lowbit's own file knows which images it has learned from, and a new head changes nothing about that.
    let fresh = [
        "train", "--data", "two", "--model", "mlp", "--epochs", "1", "--out", "fresh",
    ];
    assert!(lowbit(path, &fresh).status.success());
    let own = [
        "--from",
        "fresh/train/model_fp32.safetensors",
        "--new-head",
        "--epochs",
        "1",
        "--out",
        "again",
    ];
    let line = refused(
        path,
        &train("two", &[&own[..], &["--seed", "2"]].concat()),
        2,
    );
    assert!(
        line.contains("were training images") && line.contains("--split-seed"),
        "{line}"
    );
    assert!(!line.contains("--all"), "{line}");
    let told = train(
        "two",
        &[&own[..], &["--seed", "2", "--split-seed", "1"]].concat(),
    );
    let output = lowbit(path, &told);
    assert!(output.status.success(), "{}", stderr(&output));
    // Training would go on with the images that are measured.
    let all = [
        "qat-vs-ptq",
        "--from",
        "fresh/train/model_fp32.safetensors",
        "--data",
        "two",
        "--all",
    ];
    let line = refused(path, &all, 2);
    assert!(
        line.contains("--all") && line.contains("--split-seed"),
        "{line}"
    );
    // Every width begins with it.
    let sweep = [
        "sweep", "--widths", "32,8", "--seeds", "1", "--data", "photos", "--out", "widths",
        "--quiet",
    ];
    let output = lowbit(path, &[&sweep, &more[..8]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(path.join("widths/8bit").is_dir());
}

#[test]
fn a_preprocessing_that_cannot_be_right_is_named_with_the_one_that_would_be() {
    let folder = place();
    let path = folder.path();
    fn eval<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["eval", MODEL, "--data", "photos", "--all"], more].concat()
    }
    let line = refused(path, &eval(&["--preprocess", "unit"]), 2);
    assert!(line.contains("33.3 % of 60 images right"), "{line}");
    assert!(
        line.contains("With --preprocess none it would be 100.0 %"),
        "{line}"
    );
    let line = refused(path, &eval(&[]), 2);
    assert!(line.contains("with --preprocess"), "{line}");
    assert!(line.contains("none 100.0 %"), "{line}");
    let line = refused(path, &eval(&["--preprocess", "caffe"]), 2);
    assert!(line.contains("--preprocess caffe"), "{line}");
}

#[test]
fn a_preprocessing_that_a_model_cannot_have_is_left_out_and_said() {
    let folder = place();
    let path = folder.path();
    let fixture = "tests/fixtures/colors_depthwise.onnx";
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    std::fs::copy(fixture, path.join(MODEL)).unwrap();
    let line = refused(path, &["eval", MODEL, "--data", "photos", "--all"], 2);
    assert!(line.contains("none 100.0 %"), "{line}");
    assert!(
        line.contains("not tried: none:bgr, since") && line.contains("BGR"),
        "{line}"
    );
}

#[test]
fn a_model_of_other_classes_or_cut_off_is_one_line() {
    let folder = place();
    let path = folder.path();
    photos(&path.join("two"), &CLASSES[..2], 8, 1, true);
    let eval = ["eval", MODEL, "--preprocess", "none", "--data", "two"];
    let line = refused(path, &eval, 2);
    assert!(
        line.contains("3 classes") && line.contains("has 2"),
        "{line}"
    );
    let bytes = std::fs::read(path.join(MODEL)).unwrap();
    std::fs::write(path.join("cut.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    let line = refused(path, &["inspect", "cut.onnx"], 2);
    assert!(line.contains("cut.onnx"), "{line}");
    assert!(!path.join("out").exists());
}

#[test]
fn a_model_that_is_quantized_already_runs_as_it_is() {
    let folder = place();
    let path = folder.path();
    let flags = ["--data", "photos", "--preprocess", "none"];
    let quantized = [&["quantize", MODEL, "-o", "q.safetensors"], &flags[..]].concat();
    assert!(lowbit(path, &quantized).status.success());
    let export = ["export", "q.safetensors", "--to", "q.onnx"];
    assert!(lowbit(path, &export).status.success());
    let eval = |file: &str| {
        // What pixels become stands in the files.
        let found = json(path, &["eval", file, "--data", "photos", "--all", "--json"]);
        assert_eq!(found["kind"], "integer", "{found}");
        found["loss"].as_f64().unwrap()
    };
    let expected = eval("q.safetensors");
    assert_eq!(eval("q.onnx"), expected);
    let shown = stdout(&lowbit(path, &["inspect", "q.onnx"]));
    assert!(shown.contains("integer, static"), "{shown}");
    let again = [
        "quantize",
        "q.onnx",
        "-o",
        "again.safetensors",
        "--data",
        "photos",
    ];
    let output = lowbit(path, &again);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(eval("again.safetensors"), expected);
    let line = refused(
        path,
        &["compare", "--model", "q.onnx", "--data", "photos"],
        2,
    );
    assert!(line.contains("quantized already"), "{line}");
}

#[test]
fn layers_stay_f32_by_name() {
    let folder = place();
    let path = folder.path();
    let flags = [
        "--data",
        "photos",
        "--preprocess",
        "none",
        "-o",
        "q.safetensors",
    ];
    let quantize = |names: &'static str| {
        let arguments = ["quantize", MODEL, "--exclude", names];
        [&arguments, &flags[..]].concat()
    };
    let line = refused(path, &quantize("no_such*"), 2);
    assert!(
        line.contains("no_such*") && line.contains("near it are"),
        "{line}"
    );
    let line = refused(path, &quantize("*"), 2);
    assert!(line.contains("nothing to quantize"), "{line}");
}
