//! Model files of version 1, written by the first release: they load, compute the same bits, and are written as they were.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::{self, StoredModel};
use lowbit_kernels::Isa;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn files_of_version_1_give_the_logits_that_they_gave_and_are_written_again_byte_for_byte() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/version1"));
    let json = std::fs::read_to_string(folder.join("logits.json")).unwrap();
    let expected: BTreeMap<String, Vec<u32>> = serde_json::from_str(&json).unwrap();
    assert_eq!(expected.len(), 16);
    let scratch = tempfile::tempdir().unwrap();
    for (file, expected) in expected {
        let path = folder.join(&file);
        let stored = format::load(&path).unwrap();
        let copy = scratch.path().join(&file);
        match &stored {
            StoredModel::Float { graph, weights } => {
                format::save_float(&copy, graph, weights, None).unwrap();
            }
            StoredModel::Quantized(model) => {
                format::save_quantized(&copy, model, None).unwrap();
            }
        }
        assert_eq!(
            std::fs::read(&copy).unwrap(),
            std::fs::read(&path).unwrap(),
            "{file}"
        );
        for isa in Isa::available() {
            let model: Box<dyn Model> = match &stored {
                StoredModel::Float { graph, weights } => {
                    Box::new(FloatModel::compile(graph, weights, isa).unwrap())
                }
                StoredModel::Quantized(model) => {
                    Box::new(IntegerModel::compile(model, isa).unwrap())
                }
            };
            let len = model.graph().input().len();
            let images: Vec<u8> = (0..4 * len).map(|i| (i * 37 % 251) as u8).collect();
            let mut logits = vec![0.0; 4 * model.graph().classes()];
            model.run(&images, &mut logits).unwrap();
            let found: Vec<u32> = logits.iter().map(|x| x.to_bits()).collect();
            assert_eq!(found, expected, "{file} on {isa}");
        }
    }
}
