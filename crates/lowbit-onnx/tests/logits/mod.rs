//! Golden files of models that others wrote, and the logits that they gave.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lowbit::exec::Model;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Models by name, and the images that they saw.
pub struct Golden {
    pub images: Vec<u8>,
    pub models: BTreeMap<String, Case>,
}

pub struct Case {
    pub file: Vec<u8>,
    pub logits: Vec<f32>,
}

#[derive(Deserialize)]
struct InFile {
    images: String,
    #[serde(flatten)]
    models: BTreeMap<String, CaseInFile>,
}

/// Both in base64.
#[derive(Deserialize)]
struct CaseInFile {
    file: String,
    /// f32, little-endian.
    logits: String,
}

impl Golden {
    pub fn read(text: &str) -> Self {
        let InFile { images, models } = serde_json::from_str(text).unwrap();
        let bytes = |text: &str| STANDARD.decode(text).unwrap();
        let case = |case: CaseInFile| {
            let logits = bytes(&case.logits);
            let (words, rest) = logits.as_chunks::<4>();
            assert!(rest.is_empty());
            Case {
                file: bytes(&case.file),
                logits: words.iter().map(|&word| f32::from_le_bytes(word)).collect(),
            }
        };
        Self {
            images: bytes(&images),
            models: models
                .into_iter()
                .map(|(name, of)| (name, case(of)))
                .collect(),
        }
    }

    /// Those that are read, or those that are refused.
    pub fn cases(&self, refused: bool) -> impl Iterator<Item = (&String, &Case)> {
        let models = self.models.iter();
        models.filter(move |(name, _)| name.starts_with("refused") == refused)
    }
}

pub fn run(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

/// Asserts that all are as near as a share of the largest.
pub fn assert_near(found: &[f32], expected: &[f32], share: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= share * largest, "{what}: {a} for {b}");
    }
}
