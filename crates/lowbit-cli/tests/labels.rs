//! Labels say what is in them.

mod common;

use common::{QUICK, lowbit, names, stderr, stdout};
use serde_json::Value;

fn json(folder: &std::path::Path, arguments: &[&str]) -> Value {
    let output = lowbit(folder, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with a trained model called `m_fp32.safetensors`.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["train", "--quiet"];
    arguments.extend(QUICK);
    assert!(lowbit(folder.path(), &arguments).status.success());
    let model = folder.path().join("outputs/train/model_fp32.safetensors");
    std::fs::rename(model, folder.path().join("m_fp32.safetensors")).unwrap();
    folder
}

#[test]
fn a_quantized_model_is_named_by_its_bits() {
    let folder = trained();
    let path = folder.path();
    for (bits, file) in [("2", "m_int2.safetensors"), ("8", "m_int8.safetensors")] {
        let arguments = [
            "quantize",
            "m_fp32.safetensors",
            "--limit",
            "60",
            "--bits",
            bits,
            "--json",
        ];
        let results = json(path, &arguments);
        assert_eq!(results["output"], file);
        let size = std::fs::metadata(path.join(file)).unwrap().len();
        assert_eq!(results["quantized_bytes"], size);
        assert_eq!(results["bits"].to_string(), bits);
        assert!(results.get("int8_bytes").is_none());
    }
    let found = names(path);
    assert!(
        found.contains(&"m_int2.safetensors".to_owned()),
        "{found:?}"
    );
}

#[test]
fn what_is_not_of_8_bits_is_not_called_int8() {
    let folder = trained();
    let path = folder.path();
    let quantize = ["quantize", "m_fp32.safetensors", "--limit", "60"];
    let mixed = [&quantize[..], &["--layer-bits", "fc1=2", "--json"]].concat();
    assert_eq!(json(path, &mixed)["output"], "m_mixed.safetensors");
    for (flag, value) in [
        ("--act-bits", "4"),
        ("--edge-bits", "16"),
        ("--layer-bits", "fc1=2"),
    ] {
        let output = lowbit(path, &["compare", flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag}");
        let line = stderr(&output);
        assert!(
            line.contains(flag) && line.contains("use quantize"),
            "{line}"
        );
        assert!(!path.join("outputs/real_quantization_comparison").exists());
    }
    let dynamic = ["--method", "dynamic", "--act-bits", "4"];
    let output = lowbit(path, &[&quantize[..], &dynamic].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("8-bit activations, not 4"));
}

#[test]
fn speeds_of_other_widths_are_not_called_int8() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "bench",
        "--model",
        "mlp",
        "--image-size",
        "16",
        "--bits",
        "4",
        "--threads",
        "1",
    ];
    let mut with_json = arguments.to_vec();
    with_json.push("--json");
    let results = json(folder.path(), &with_json);
    assert_eq!(results["bits"], 4);
    assert!(results["speed"][0]["quantized_ms"]["median"].is_number());
    assert!(results["layers"][0]["quantized_gmac_per_s"].is_number());
    assert!(!results.to_string().contains("int8"), "{results}");
    let text = stdout(&lowbit(folder.path(), &arguments));
    assert!(text.contains("4-bit") && !text.contains("INT8"), "{text}");
}

#[test]
fn accuracies_in_percent_say_so_and_batches_are_as_large_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut arguments = vec!["compare"];
    arguments.extend(QUICK);
    let output = lowbit(path, &arguments);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    // 60 test images are not 64.
    assert!(text.contains("img/s, batch 60,"), "{text}");
    assert!(text.contains("(ms per batch of 60 on one thread"), "{text}");
    let file = path.join("outputs/real_quantization_comparison/comparison_results.json");
    let results: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let percent = |model: &str| {
        let model = &results["comparison"][model];
        assert!(model.get("accuracy").is_none());
        model["accuracy_percent"].as_f64().unwrap()
    };
    let last = results["training"]["epochs"][2]["test_accuracy"]
        .as_f64()
        .unwrap();
    assert!((percent("fp32") - 100.0 * last).abs() < 1e-9);
    assert!((0.0..=100.0).contains(&percent("int8")));
    assert_eq!(results["layers"][0]["batch"], 60);
}

#[test]
fn one_bit_is_no_plural() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["sweep", "--widths", "32,1"];
    arguments.extend(QUICK);
    let output = lowbit(folder.path(), &arguments);
    let page = std::fs::read_to_string(folder.path().join("outputs/report.html")).unwrap();
    let svg = std::fs::read_to_string(folder.path().join("outputs/roofline.svg")).unwrap();
    for text in [stdout(&output), stderr(&output), page, svg] {
        let wrong = text
            .match_indices("1 bits")
            .find(|(at, _)| !text[..*at].ends_with(|before: char| before.is_ascii_digit()));
        assert!(
            wrong.is_none(),
            "{}",
            &text[wrong.unwrap().0.saturating_sub(40)..][..60]
        );
    }
}
