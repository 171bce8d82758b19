//! Files with bytes that nobody meant: whatever comes of them, no panic.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit_onnx::{Options, decode};
use std::collections::BTreeMap;

/// Changed files per model.
const TRIES: usize = 400;

/// Numbers that look like noise.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// Some bytes of a file changed, dropped, doubled or moved.
fn mutated(file: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=noise.below(4) {
        let at = noise.below(bytes.len());
        let len = noise.below(16).min(bytes.len() - at);
        match noise.below(6) {
            0 => bytes[at] ^= 1 << noise.below(8),
            1 => bytes[at] = noise.below(256) as u8,
            2 => drop(bytes.drain(at..at + len)),
            3 => {
                let part = bytes[at..at + len].to_vec();
                let to = noise.below(bytes.len());
                bytes.splice(to..to, part);
            }
            4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][noise.below(5)],
            _ => {
                let other = noise.below(bytes.len() - len + 1);
                bytes.copy_within(at..at + len, other);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn a_file_with_wrong_bytes_is_refused_or_is_a_model_that_runs() {
    let golden: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("golden/quantized.json")).unwrap();
    let (mut read, mut refused) = (0, 0);
    let names = [
        "plain.qdq_u8s8_channel",
        "residual.qdq_u8s8_exclude",
        "residual.qoperator_u8s8_channel",
        "gated.qdq_s8s8_channel",
        "plain.qdq_u8s4_tensor",
        "mobile.qdq_u8s8_scales",
    ];
    for (seed, name) in names.into_iter().enumerate() {
        let file = golden[name]["file"].as_str().unwrap();
        let file = STANDARD.decode(file).unwrap();
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15 ^ seed as u64);
        for _ in 0..TRIES {
            let bytes = mutated(&file, &mut noise);
            match decode(bytes, &Options::default()) {
                Err(error) => {
                    refused += 1;
                    let line = error.to_string();
                    assert_eq!(line.lines().count(), 1, "{line:?}");
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                }
                // What is read also runs, unless it became a larger network than the test wants to wait for.
                Ok(imported) => {
                    read += 1;
                    let (graph, quantized) = (&imported.graph, &imported.quantized);
                    if let Some(model) = quantized
                        && graph.macs() < 10_000_000
                    {
                        let model = IntegerModel::new(model).unwrap();
                        let mut logits = vec![0.0; graph.classes()];
                        let image = vec![100; graph.input().len()];
                        model.run(&image, &mut logits).unwrap();
                    }
                }
            }
        }
    }
    assert!(read > 50 && refused > 200, "{read} read, {refused} refused");
}

#[test]
fn a_transformer_with_wrong_bytes_is_refused_or_is_a_model_that_runs() {
    let golden: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("golden/attention.json")).unwrap();
    let (mut read, mut refused) = (0, 0);
    let names = [
        "joint.torchscript17",
        "mobile.torchscript17",
        "mixer.dynamo20",
        "joint.dynamo23",
    ];
    for (seed, name) in names.into_iter().enumerate() {
        let file = golden[name]["file"].as_str().unwrap();
        let file = STANDARD.decode(file).unwrap();
        let mut noise = Noise(0x2545_f491_4f6c_dd1d ^ seed as u64);
        for _ in 0..TRIES {
            let Ok(imported) = decode(mutated(&file, &mut noise), &Options::default()) else {
                refused += 1;
                continue;
            };
            read += 1;
            let graph = &imported.graph;
            if graph.macs() < 10_000_000 {
                let model = FloatModel::new(graph, &imported.weights).unwrap();
                let mut logits = vec![0.0; graph.classes()];
                let image = vec![100; graph.input().len()];
                model.run(&image, &mut logits).unwrap();
            }
        }
    }
    assert!(read > 50 && refused > 200, "{read} read, {refused} refused");
}
