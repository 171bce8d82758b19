//! Transformers and mixers: what PyTorch's exporters write gives PyTorch's logits (`bench/onnx/attention.py` wrote both).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lowbit::Isa;
use lowbit::exec::{FloatModel, Model};
use lowbit::graph::{Attention, Op};
use lowbit_onnx::{Options, decode};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    images: String,
    #[serde(flatten)]
    models: BTreeMap<String, Case>,
}

/// Both in base64.
#[derive(Deserialize)]
struct Case {
    file: String,
    /// f32, little-endian.
    logits: String,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/attention.json")).unwrap()
}

fn run(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

fn assert_near(found: &[f32], expected: &[f32], share: f32, what: &str) {
    let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= share * largest, "{what}: {a} for {b}");
    }
}

#[test]
fn files_of_pytorchs_exporters_give_its_logits_on_every_isa() {
    let golden = golden();
    let images = STANDARD.decode(&golden.images).unwrap();
    let mut compared = 0;
    for (name, case) in &golden.models {
        if name.starts_with("refused") {
            continue;
        }
        compared += 1;
        let file = STANDARD.decode(&case.file).unwrap();
        let imported =
            decode(file, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let bytes = STANDARD.decode(&case.logits).unwrap();
        let (words, _) = bytes.as_chunks::<4>();
        let expected: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let model = FloatModel::compile(&imported.graph, &imported.weights, isa).unwrap();
            let found = run(&model, &images);
            assert_near(&found, &expected, 2e-6, &format!("{name} on {isa}"));
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{name}");
        }
        let attentions: Vec<Attention> = imported
            .graph
            .nodes()
            .iter()
            .filter_map(|node| match node.op {
                Op::Attention(attention) => Some(attention),
                _ => None,
            })
            .collect();
        let (kind, _) = name.split_once('.').unwrap();
        let expected: &[[usize; 3]] = match kind {
            "mixer" => &[],
            "mobile" => &[[3, 2, 2]],
            _ => &[[3, 1, 1]],
        };
        let found: Vec<[usize; 3]> = attentions
            .iter()
            .map(|attention| [attention.heads, attention.patch[0], attention.patch[1]])
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(compared, 14);
}

#[test]
fn masks_and_windows_are_refused_by_the_name_of_the_node() {
    let golden = golden();
    let mut refused = 0;
    for (name, case) in &golden.models {
        if !name.starts_with("refused") {
            continue;
        }
        refused += 1;
        let file = STANDARD.decode(&case.file).unwrap();
        let error = decode(file, &Options::default()).unwrap_err().to_string();
        let reasons = [
            "no mask",
            "is_causal",
            "masks",
            "within windows",
            // Of which dynamo makes a mask.
            "(Trilu)",
        ];
        assert!(
            reasons.iter().any(|reason| error.contains(reason)),
            "{name}: {error}"
        );
        assert!(error.contains("node ") && !error.contains('\n'), "{error}");
    }
    assert_eq!(refused, 7);
}
