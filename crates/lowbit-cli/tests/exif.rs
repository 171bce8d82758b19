//! `--exif`: images are turned as their EXIF orientation says, and a model remembers it.

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::{lowbit, refused, stderr, stdout};
use photos::photos;
use serde_json::Value;
use std::path::Path;

/// The left half is red, the right half is not: 16 pixels wide, 8 high.
const JPEG: &[u8] = include_bytes!("../../lowbit-data/tests/fixtures/half_red_16x8.jpg");
const CLASSES: [&str; 3] = ["ant", "bee", "cow"];
const MODEL: &str = "out/train/model_fp32.safetensors";

/// EXIF data that hold an orientation and nothing else.
fn tiff(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
    tiff[19] = orientation;
    tiff
}

/// The JPEG, stored as a camera does that was held in the way of `orientation`.
fn turned_jpeg(orientation: u8) -> Vec<u8> {
    let body = [b"Exif\0\0", &tiff(orientation)[..]].concat();
    let len = (body.len() as u16 + 2).to_be_bytes();
    [&JPEG[..2], &[0xFF, 0xE1], &len, &body, &JPEG[2..]].concat()
}

/// CRC-32, bit by bit, as the specification of PNG writes it.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
    let add = |crc: u32, &byte: &u8| (0..8).fold(crc ^ u32::from(byte), step);
    !bytes.iter().fold(!0, add)
}

/// Puts an orientation into a PNG.
fn turn(path: &Path, orientation: u8) {
    let png = std::fs::read(path).unwrap();
    let chunk = [b"eXIf", &tiff(orientation)[..]].concat();
    let len = (chunk.len() as u32 - 4).to_be_bytes();
    // Behind the signature and the header.
    let (head, rest) = png.split_at(8 + 25);
    let whole = [head, &len, &chunk, &crc(&chunk).to_be_bytes(), rest].concat();
    std::fs::write(path, whole).unwrap();
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

#[test]
fn a_turned_jpeg_is_upright_with_the_flag_and_as_it_is_stored_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for class in ["a", "b"] {
        std::fs::create_dir_all(path.join("photos").join(class)).unwrap();
        for index in 0..4 {
            let name = format!("photos/{class}/{index}.jpg");
            std::fs::write(path.join(name), turned_jpeg(6)).unwrap();
        }
    }
    let shape = |more: &[&str]| {
        let results = json(path, &[&["data", "photos", "--json"], more].concat());
        (results["image_shape"].clone(), results["notes"].to_string())
    };
    // The second call of each reads the cache, and says the same.
    for _ in 0..2 {
        let (stored, notes) = shape(&[]);
        assert_eq!(stored, serde_json::json!([8, 16, 3]));
        assert!(
            notes.contains("in 8 images is not applied") && notes.contains("--exif"),
            "{notes}"
        );
        let (upright, notes) = shape(&["--exif"]);
        assert_eq!(upright, serde_json::json!([16, 8, 3]));
        assert!(notes.contains("8 images turned"), "{notes}");
    }
    assert_eq!(shape(&["--exif", "--no-cache"]).0, shape(&["--exif"]).0);
    assert_eq!(shape(&["--set", "exif=true"]).0, shape(&["--exif"]).0);
    std::fs::write(path.join("s.toml"), "exif = true\n").unwrap();
    assert_eq!(shape(&["--config", "s.toml"]).0, shape(&["--exif"]).0);
    // One that is not turned among them has another shape.
    std::fs::write(path.join("photos/a/4.jpg"), JPEG).unwrap();
    let line = refused(path, &["data", "photos", "--exif"], 2);
    assert!(
        line.contains("4.jpg") && line.contains("--image-size"),
        "{line}"
    );
    let output = lowbit(path, &["data", "photos"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_model_remembers_that_its_images_were_turned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 20, 1, false);
    for class in CLASSES {
        (0..20).for_each(|i| turn(&path.join(format!("photos/{class}/{i}.png")), 6));
    }
    let train = |more: &[&str]| {
        let quick = [
            "train", "--data", "photos", "--model", "mlp", "--epochs", "2",
        ];
        json(
            path,
            &[&quick[..], &["--out", "out", "--json"], more].concat(),
        )
    };
    let eval = |more: &[&str]| {
        json(
            path,
            &[&["eval", MODEL, "--data", "photos", "--json"], more].concat(),
        )
    };
    let fingerprint = |results: &Value| results["data"]["fingerprint"].clone();
    let stored = train(&[]);
    let evaluated = eval(&[]);
    assert_eq!(evaluated["evaluated"]["images"], "test_of_training");
    // Turned now, and not then: still the images of its training, split as they were.
    let turned = eval(&["--exif"]);
    assert_eq!(turned["evaluated"], evaluated["evaluated"]);
    assert_ne!(turned["loss"], evaluated["loss"]);
    assert_eq!(eval(&["--exif", "--all"])["evaluated"]["seen"], 48);
    // A training with the flag is another training.
    let line = refused(
        path,
        &[
            "train", "--data", "photos", "--model", "mlp", "--epochs", "2", "--out", "out",
            "--exif", "--resume",
        ],
        2,
    );
    assert!(line.contains("data"), "{line}");
    let upright = train(&["--exif"]);
    assert_ne!(fingerprint(&upright), fingerprint(&stored));
    assert_eq!(upright["config"]["exif"], true);
    let remembered = eval(&[]);
    assert_eq!(remembered, eval(&["--exif"]));
    assert_eq!(remembered["evaluated"]["images"], "test_of_training");
    assert_eq!(remembered["evaluated"]["possibly_seen"], 0);
    let quantized = ["quantize", MODEL, "--data", "photos", "-o", "q.safetensors"];
    let output = lowbit(path, &quantized);
    assert!(output.status.success(), "{}", stderr(&output));
    let results = json(
        path,
        &["eval", "q.safetensors", "--data", "photos", "--json"],
    );
    assert_eq!(results["evaluated"], remembered["evaluated"]);
}

#[test]
fn every_command_that_reads_images_says_what_was_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    photos(&path.join("photos"), &CLASSES, 20, 1, true);
    std::fs::write(path.join("photos/ant/drawing.svg"), "<svg/>").unwrap();
    let note = "note: 1 file is left out: 1 .svg";
    let says = |arguments: &[&str]| {
        let output = lowbit(path, arguments);
        let text = stderr(&output);
        assert!(output.status.success(), "{arguments:?}: {text}");
        assert_eq!(
            text.matches("1 .svg").count(),
            1,
            "{note}: {arguments:?}: {text}"
        );
        stdout(&output)
    };
    let data = ["--data", "photos", "--epochs", "1", "--model", "mlp"];
    says(&["data", "photos"]);
    says(&[&["train", "--out", "out"], &data[..]].concat());
    says(&["eval", MODEL, "--data", "photos"]);
    says(&["quantize", MODEL, "--data", "photos", "-o", "q.safetensors"]);
    says(&[&["compare", "--out", "c"], &data[..]].concat());
    let compared =
        std::fs::read(path.join("c/real_quantization_comparison/comparison_results.json"));
    let compared: Value = serde_json::from_slice(&compared.unwrap()).unwrap();
    assert!(compared["data"]["notes"].to_string().contains("1 .svg"));
    says(&[&["qat-vs-ptq", "--seeds", "1", "--out", "q"], &data[..]].concat());
    says(
        &[
            &["sweep", "--widths", "32,8", "--seeds", "1", "--out", "s"],
            &data[..],
        ]
        .concat(),
    );
}
