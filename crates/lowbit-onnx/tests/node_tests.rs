//! The nodes of ONNX's own backend tests against ONNX Runtime (bench/onnx/node_tests.py): each gives the same numbers, or is
//! refused for the reason that stands here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lowbit::exec::{FloatModel, Model};
use lowbit::graph::Normalization;
use lowbit_onnx::{Options, decode};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    model: String,
    pixels: String,
    size: usize,
    values: String,
}

/// What is refused, and a part of what is said then.
const REFUSED: &[(&str, &str)] = &[];

fn bytes(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

/// The largest difference, of the largest value; or why the model is refused.
fn run(test: &Test) -> Result<f32, String> {
    let options = Options {
        normalization: Normalization::uniform(0.5, 0.25),
        ..Options::default()
    };
    let imported = decode(bytes(&test.model), &options).map_err(|error| error.to_string())?;
    let model = FloatModel::new(&imported.graph, &imported.weights).map_err(|error| error.to_string())?;
    assert_eq!(imported.graph.classes(), test.size, "{}", test.name);
    let mut logits = vec![0.0; test.size];
    model.try_run(&bytes(&test.pixels), &mut logits).unwrap();
    let values = bytes(&test.values);
    let (values, _) = values.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|&value| f32::from_le_bytes(value)).collect();
    let (count, last) = (values.len().min(160), (test.size - 1) as f64);
    // As numpy's linspace rounds.
    let step = last / (count.max(2) - 1) as f64;
    let place = |i: usize| if i + 1 == count { test.size - 1 } else { (i as f64 * step) as usize };
    let largest = values.iter().fold(1e-3, |most: f32, x| most.max(x.abs()));
    let difference = |(i, value): (usize, &f32)| (logits[place(i)] - value).abs();
    let worst = values.iter().enumerate().map(difference).fold(0.0, f32::max);
    Ok(worst / largest)
}

#[test]
fn every_node_test_gives_the_same_numbers_or_is_refused_for_a_stated_reason() {
    let golden: Golden = serde_json::from_str(include_str!("golden/node_tests.json")).unwrap();
    let mut wrong = Vec::new();
    let mut passed = 0;
    for test in &golden.tests {
        let expected = REFUSED.iter().find(|(name, _)| *name == test.name);
        match (run(test), expected) {
            (Ok(difference), None) if difference <= 2e-5 => passed += 1,
            (Err(error), Some((_, reason))) if error.contains(reason) => {}
            (Ok(difference), _) => wrong.push(format!("{}: differs by {difference:e}", test.name)),
            (Err(error), _) => wrong.push(format!("{}: {error}", test.name)),
        }
    }
    assert!(wrong.is_empty(), "{passed} pass, of {}; others:\n{}", golden.tests.len(), wrong.join("\n"));
}
