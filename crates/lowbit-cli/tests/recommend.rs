//! What a user sees of `lowbit recommend --train`: the binary, run as a whole.

mod common;

use common::{lowbit, names, refused, stderr, stdout};
use serde_json::Value;
use std::path::Path;

const DATA: [&str; 7] = [
    "--data",
    "landcover",
    "--limit",
    "200",
    "--image-size",
    "16",
    "--no-cache",
];

fn trained_model(path: &Path) {
    let more = [
        "train",
        "--model",
        "resnet8",
        // So many that two bits are tried by training with every seed: fewer, and rounding now and then costs nothing.
        "--epochs",
        "30",
        "--batch-size",
        "16",
        "--lr",
        "0.004",
    ];
    let output = lowbit(path, &[&more[..], &DATA].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let from = path.join("outputs/train/model_fp32.safetensors");
    std::fs::copy(from, path.join("m.safetensors")).unwrap();
}

#[test]
fn the_command_of_a_trained_row_makes_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    trained_model(path);
    let asked = [
        "recommend",
        "m.safetensors",
        "--train",
        "4s",
        "--time",
        // Not enough for learned rounding, so that the narrowest width is not tried before.
        "2s",
        "--max-drop",
        "2",
        "--target",
        "size",
        "--json",
    ];
    let output = lowbit(path, &[&asked[..], &DATA].concat());
    let found: Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(found["training_images"], 200);
    let rows = found["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "W2A8, trained");
    let row = row.unwrap_or_else(|| panic!("{}", found["skipped"]));
    let command = row["command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let output = lowbit(
        path,
        &[&words[..], &["--no-cache", "--out", "theirs"]].concat(),
    );
    assert!(output.status.success(), "{command}: {}", stderr(&output));
    let parent = path.join("theirs/2bit");
    let run = names(&parent);
    assert_eq!(run.len(), 1, "{run:?}");
    let theirs = std::fs::read(parent.join(&run[0]).join("model_2bit.safetensors")).unwrap();
    let candidates = path.join("outputs/recommend/candidates");
    let is_theirs = |name: &String| std::fs::read(candidates.join(name)).unwrap() == theirs;
    let files = names(&candidates);
    let mut models = files.iter().filter(|name| name.ends_with(".safetensors"));
    assert!(models.any(is_theirs), "{command}: {files:?}");
}

#[test]
fn what_may_be_trained_is_listed_and_all_images_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    trained_model(path);
    let list = |more: &[&str]| {
        let asked = ["recommend", "m.safetensors", "--dry-run"];
        let output = lowbit(path, &[&asked[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert!(!list(&[]).contains("trained"), "{}", list(&[]));
    let listed = list(&["--train", "30m"]);
    assert!(
        listed.contains("W4A8, trained: lowbit sweep --from m.safetensors --data landcover --widths 4 --seeds 1 --epochs N --lr 0.0001, where no rounded model is shown to lose at most 1 point"),
        "{listed}"
    );
    // Each is a command that makes the file.
    let listed = list(&["--limit", "200", "--all"]);
    let line = listed.lines().next().unwrap();
    let command = "lowbit quantize m.safetensors --data landcover --bits 8 --observer minmax --limit 200 --all";
    assert_eq!(line, format!("W8A8: {command}"));
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let output = lowbit(
        path,
        &[&words[..], &["--image-size", "16", "-o", "q.safetensors"]].concat(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    // What could not be tried is not listed.
    let line = refused(path, &["recommend", "q.safetensors", "--dry-run"], 2);
    assert!(
        line.contains("is quantized already; give an FP32 model"),
        "{line}"
    );
    let line = refused(path, &["recommend", "none.safetensors", "--dry-run"], 2);
    assert!(line.contains("none.safetensors: cannot read"), "{line}");
    let asked = ["recommend", "m.safetensors", "--train", "8s", "--all"];
    let line = refused(path, &[&asked[..], &DATA].concat(), 2);
    assert!(line.contains("--all: training would go on"), "{line}");
}
