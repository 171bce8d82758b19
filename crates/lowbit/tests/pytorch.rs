//! Training against PyTorch: the same weights and images, made from a formula (bench/peers/recipe.py), step by step.
//!
//! The tolerances follow from what was seen: losses agree to 1e-7 at first and drift apart to 7e-4 in 20 steps of Adam, whose
//! steps do not shrink with the gradient, so that its rounding (ours: f32 sums over thousands of pixels in a row, about 1e-5)
//! grows; logits after training agree to 0.006 of about 1.5.

use lowbit::graph::zoo;
use lowbit::runtime::{FloatModel, Model};
use lowbit::train::{Optimizer, Trainer};
use lowbit::{Shape, Tensor, Weights};
use lowbit_kernels::Isa;
use serde_json::Value;
use std::path::Path;

fn hash(i: u64) -> u32 {
    let mut x = i.wrapping_mul(2_654_435_761) as u32;
    x ^= x >> 16;
    x = x.wrapping_mul(2_246_822_519);
    x ^= x >> 13;
    x = x.wrapping_mul(3_266_489_917);
    x ^ (x >> 16)
}

/// Images `[n, h, w, 3]` and labels of one step.
fn batch(step: usize, count: usize, size: usize) -> (Vec<u8>, Vec<u32>) {
    let labels: Vec<u32> = (step * count..(step + 1) * count)
        .map(|sample| hash(sample as u64 + 777) % 10)
        .collect();
    let image_len = size * size * 3;
    let first = step * count * image_len;
    let images = (0..count * image_len)
        .map(|i| {
            let label = labels[i / image_len];
            let brighter = if i % 3 == label as usize % 3 {
                label * 9
            } else {
                0
            };
            ((hash((first + i) as u64 + 12345) >> 24) + brighter).min(255) as u8
        })
        .collect();
    (images, labels)
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("golden files hold numbers")],
    }
}

fn check(name: &str, file: &str, optimizer: Optimizer, lr: f32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(file);
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let setting = &golden["setting"];
    let size = setting["input"][0].as_u64().unwrap() as usize;
    let count = setting["batch"].as_u64().unwrap() as usize;
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let graph = zoo::build(name, Shape::new(size, size, 3), &classes).unwrap();
    assert_eq!(golden["parameter_count"], graph.parameter_count());

    let mut weights = Weights::init(&graph, 0);
    for (k, parameter) in golden["parameters"].as_array().unwrap().iter().enumerate() {
        let name = parameter["name"].as_str().unwrap();
        let Some(fan_in) = parameter["fan_in"].as_f64() else {
            continue;
        };
        let shape = weights
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
            .shape()
            .to_vec();
        let bound = (1.0 / fan_in.sqrt()) as f32;
        let signed = |j: usize| {
            let unit = (hash((k * 10_000_000 + j) as u64) >> 8) as f32 / (1 << 24) as f32;
            2.0 * unit - 1.0
        };
        let data = (0..shape.iter().product())
            .map(|j| bound * signed(j))
            .collect();
        weights.insert(name, Tensor::new(shape, data));
    }

    let mut trainer = Trainer::new(&graph, &weights, optimizer, Isa::best()).unwrap();
    let (f32s, f64s) = (
        numbers(&golden["f32"]["loss"]),
        numbers(&golden["f64"]["loss"]),
    );
    for (step, (&expected, &exact)) in f32s.iter().zip(&f64s).enumerate() {
        let (images, labels) = batch(step, count, size);
        let loss = trainer.step(&images, &labels, lr).unwrap().loss;
        let tolerance = 3e-6 * (1 << step.min(8)) as f64 + 10.0 * (expected - exact).abs();
        assert!(
            (loss - expected).abs() < tolerance,
            "{file}, step {step}: loss {loss}, PyTorch {expected} (f64: {exact})"
        );
    }
    let (images, _) = batch(0, count, size);
    let trained = trainer.weights();
    let mut logits = vec![0.0; 4 * 10];
    let images = &images[..4 * graph.input().len()];
    FloatModel::compile(&graph, &trained, Isa::best())
        .unwrap()
        .run(images, &mut logits);
    let expected = numbers(&golden["f32"]["eval_logits"]);
    for (found, expected) in logits.iter().zip(expected) {
        assert!(
            (f64::from(*found) - expected).abs() < 2e-2,
            "{file}: logit {found} after training, PyTorch {expected}"
        );
    }
}

#[test]
fn eurosat_cnn_trains_along_pytorchs_loss_curve() {
    check(
        "eurosat-cnn",
        "eurosat_cnn_loss_curve.json",
        Optimizer::default(),
        1e-3,
    );
    check(
        "eurosat-cnn",
        "eurosat_cnn_sgd.json",
        Optimizer::Sgd { momentum: 0.9 },
        1e-2,
    );
}

#[test]
fn resnet8_trains_along_pytorchs_loss_curve() {
    check("resnet8", "resnet8_adam.json", Optimizer::default(), 1e-3);
    check(
        "resnet8",
        "resnet8_sgd.json",
        Optimizer::Sgd { momentum: 0.9 },
        1e-2,
    );
}
