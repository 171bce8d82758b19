//! `lowbit doctor`, run as a whole.

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::{lowbit, refused, stderr, stdout};
use photos::photos;
use serde_json::Value;
use std::path::Path;

const CLASSES: [&str; 3] = ["ant", "bee", "cow"];
const MODEL: &str = "colors.onnx";

/// A folder with a model and photos whose colors it knows.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/colors.onnx");
    std::fs::copy(fixture, folder.path().join(MODEL)).unwrap();
    photos(&folder.path().join("photos"), &CLASSES, 60, 1, true);
    folder
}

/// The exit code, and the diagnosis as JSON.
fn diagnosis(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["doctor", "--json"], arguments].concat();
    let output = lowbit(folder, &arguments);
    let found = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        found.unwrap_or_else(|error| panic!("{error}: {}", stderr(&output))),
    )
}

fn levels(found: &Value, rule: &str) -> Vec<String> {
    let findings = found["findings"].as_array().unwrap().iter();
    let of_rule = findings.filter(|finding| finding["rule"] == rule);
    of_rule
        .map(|finding| finding["level"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_sound_model_ends_with_zero_and_what_was_not_looked_at_is_listed() {
    let folder = place();
    let path = folder.path();
    let output = lowbit(path, &["doctor", MODEL]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.starts_with("colors.onnx: 0 errors"), "{text}");
    assert!(
        text.contains("not looked at: at-chance, ") && text.contains(": it needs --data"),
        "{text}"
    );
    let (code, found) = diagnosis(path, &[MODEL, "--data", "photos"]);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(found["experiment"], "diagnosis");
    assert!(
        found["looked"]
            .as_array()
            .unwrap()
            .contains(&"at-chance".into()),
        "{found}"
    );
    assert_eq!(found["not_looked"].as_array().unwrap().len(), 0, "{found}");
}

#[test]
fn a_rule_that_has_too_few_images_says_so() {
    let folder = place();
    let (code, found) = diagnosis(folder.path(), &[MODEL, "--data", "photos", "--limit", "8"]);
    assert_eq!(code, Some(0), "{found}");
    let waits = found["not_looked"].as_array().unwrap();
    for (rule, why) in [
        ("at-chance", "it needs 20 test images, there are 8"),
        ("permuted-labels", "it needs 12 test images, there are 8"),
    ] {
        let of_rule = waits.iter().find(|waits| waits["rule"] == rule);
        assert_eq!(of_rule.unwrap()["why"], why, "{found}");
    }
}

#[test]
fn wrong_preprocessing_and_another_order_of_classes_are_errors() {
    let folder = place();
    let path = folder.path();
    let (code, found) = diagnosis(path, &[MODEL, "--data", "photos", "--preprocess", "unit"]);
    assert_eq!(
        (code, levels(&found, "at-chance")),
        (Some(1), vec!["error".to_owned()]),
        "{found}"
    );
    let text = found.to_string();
    assert!(text.contains("with --preprocess none 100.0 %"), "{text}");
    std::fs::write(path.join("labels.txt"), "bee\ncow\nant\n").unwrap();
    let flags = [MODEL, "--data", "photos", "--labels", "labels.txt"];
    let (code, found) = diagnosis(path, &flags);
    assert_eq!(code, Some(1), "{found}");
    assert_eq!(levels(&found, "permuted-labels"), ["error"], "{found}");
    let output = lowbit(path, &[&["doctor"], &flags[..]].concat());
    let text = stdout(&output);
    assert!(
        text.contains("error: permuted-labels\n  0.0 % of 36 images right"),
        "{text}"
    );
    assert!(text.contains("\n  do: give the names"), "{text}");
}

#[test]
fn quantized_files_of_both_kinds_are_looked_at() {
    let folder = place();
    let path = folder.path();
    let flags = ["--data", "photos", "--preprocess", "none"];
    let quantize = [&["quantize", MODEL, "-o", "q.safetensors"], &flags[..]].concat();
    assert!(lowbit(path, &quantize).status.success());
    let (code, found) = diagnosis(
        path,
        &["q.safetensors", "--data", "photos", "--all", "--time"],
    );
    assert_eq!(code, Some(0), "{found}");
    let looked = found["looked"].as_array().unwrap();
    for rule in [
        "clipped-activations",
        "unused-levels",
        "slower-layers",
        "size",
    ] {
        assert!(looked.contains(&rule.into()), "{rule}: {found}");
    }
    assert!(
        lowbit(path, &["export", "q.safetensors", "--to", "q.onnx"])
            .status
            .success()
    );
    let (code, found) = diagnosis(path, &["q.onnx"]);
    assert_eq!(code, Some(0), "{found}");
    assert!(levels(&found, "float-nodes").is_empty(), "{found}");
}

#[test]
fn bad_input_is_one_line() {
    let folder = place();
    let path = folder.path();
    let line = refused(path, &["doctor", "none.onnx"], 2);
    assert!(line.contains("none.onnx: cannot read"), "{line}");
    std::fs::write(path.join("text.onnx"), "no model\n").unwrap();
    let line = refused(path, &["doctor", "text.onnx"], 2);
    assert!(line.contains("text.onnx"), "{line}");
    std::fs::write(path.join("text.safetensors"), "no model\n").unwrap();
    refused(path, &["doctor", "text.safetensors"], 2);
    let line = refused(path, &["doctor", MODEL, "--time"], 2);
    assert!(line.contains("give --data"), "{line}");
    std::fs::create_dir(path.join("loose")).unwrap();
    std::fs::copy(path.join("photos/ant/0.png"), path.join("loose/0.png")).unwrap();
    let line = refused(path, &["doctor", MODEL, "--data", "loose"], 2);
    assert!(line.contains("loose"), "{line}");
    // An operator that lowbit does not run: the graph alone is looked at, and with images the command ends.
    let mut bytes = std::fs::read(path.join(MODEL)).unwrap();
    let at = bytes
        .windows(7)
        .position(|part| part == b"Softmax")
        .unwrap();
    bytes[at + 5] = b'i';
    std::fs::write(path.join("other.onnx"), bytes).unwrap();
    let text = stdout(&lowbit(path, &["doctor", "other.onnx"]));
    assert!(
        text.contains("lowbit does not run it (node probabilities (Softmix)"),
        "{text}"
    );
    let line = refused(path, &["doctor", "other.onnx", "--data", "photos"], 2);
    assert!(line.contains("Softmix"), "{line}");
}

#[test]
fn a_checkpoint_is_looked_at_for_gradients() {
    let folder = place();
    let path = folder.path();
    let qat = |out: &str, more: &[&str]| {
        let base = [
            "qat-vs-ptq",
            "--data",
            "photos",
            "--model",
            "mlp",
            "--epochs",
            "2",
            "--seeds",
            "1",
            "--bits",
            "4",
            "--threads",
            "2",
            "--out",
            out,
        ];
        let output = lowbit(path, &[&base[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        format!("{out}/qat_vs_ptq_comparison/checkpoint_qat4_seed1.safetensors")
    };
    let file = qat("right", &[]);
    if !path.join(&file).exists() {
        let names = common::names(&path.join("right/qat_vs_ptq_comparison"));
        panic!("{file} is not among {names:?}");
    }
    let (code, found) = diagnosis(path, &[&file]);
    assert_eq!(code, Some(0), "{found}");
    let file = qat("wrong", &["--no-ste"]);
    let (code, found) = diagnosis(path, &[&file]);
    assert_eq!(
        (code, levels(&found, "no-gradient")),
        (Some(1), vec!["error".to_owned()]),
        "{found}"
    );
}
