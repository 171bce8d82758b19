//! What a model was trained on: enough to find its test images again, and to tell images that it has seen from others.

use serde::{Deserialize, Serialize};

/// What a model was trained on. It stands in the model's file and goes over to the models that are quantized from it.
///
/// The classes in order and the shape of the images are the graph's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Seed of the initial weights and of the order of the images.
    pub seed: u64,
    /// Name of the data set.
    pub data: String,
    /// Checksum over class names, labels and pixels of all training and test images, in order, as the model saw them.
    pub fingerprint: String,
    /// The images that were learned from.
    pub train_images: usize,
    /// The images that were kept for testing.
    pub test_images: usize,
    /// How the two were told apart.
    pub split: SplitRecord,
    /// Size that images were brought to; 0 where they kept their own.
    #[serde(default)]
    pub image_size: usize,
    /// How they were brought to it, as `--resize` says it; empty where they were stretched.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resize: String,
    /// Whether images were turned as their EXIF orientation says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif: bool,
    /// The up to 256 smallest 32-bit hashes of the training and validation images' pixels, little-endian, in base64.
    pub sketch: String,
    /// What the model had been trained on before that, where training began with a trained model and other data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Box<TrainingRecord>>,
}

/// How training, validation and test images were told apart: what a loader needs to do it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// The rule, for people: `as shipped`, or `seeded stratified 80/20 (seed 1)`.
    pub rule: String,
    /// The rule, as `--split` says it; empty for the usual one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asked: String,
    /// Seed of the split and of the choice under a limit.
    pub seed: u64,
    /// Share of the images that was kept for testing, where the data had no split of their own.
    pub test_fraction: f64,
    /// Most images of each part; 0 for all.
    #[serde(default)]
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        Checkpoint, load, load_checkpoint, load_with_record, save_checkpoint, save_float,
    };
    use crate::graph::zoo;
    use crate::{Shape, Weights};
    use std::collections::BTreeMap;

    fn record() -> TrainingRecord {
        TrainingRecord {
            seed: 3,
            data: "photos".into(),
            fingerprint: "00112233445566778899aabbccddeeff".into(),
            train_images: 8,
            test_images: 2,
            split: SplitRecord {
                rule: "seeded stratified 80/20 (seed 1)".into(),
                asked: String::new(),
                seed: 1,
                test_fraction: 0.2,
                limit: 0,
            },
            image_size: 64,
            resize: String::new(),
            exif: false,
            sketch: "AQAAAAIAAAA=".into(),
            earlier: None,
        }
    }

    #[test]
    fn a_record_goes_with_a_model_and_a_checkpoint_and_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let names = ["ant", "bee"].map(String::from);
        let graph = zoo::build("mlp", Shape::new(2, 2, 1), &names).unwrap();
        let weights = Weights::init(&graph, 1);
        let record = TrainingRecord {
            earlier: Some(Box::new(record())),
            ..record()
        };
        save_float(&path, &graph, &weights, None).unwrap();
        let (without, none) = load_with_record(&path).unwrap();
        assert_eq!(none, None);
        save_float(&path, &graph, &weights, Some(&record)).unwrap();
        assert_eq!(
            load_with_record(&path).unwrap(),
            (without, Some(record.clone()))
        );
        let checkpoint = Checkpoint {
            graph,
            weights: weights.clone(),
            optimizer: weights,
            metadata: BTreeMap::from([("steps".into(), "7".into())]),
            record: Some(record.clone()),
        };
        save_checkpoint(&path, &checkpoint).unwrap();
        assert_eq!(load_checkpoint(&path).unwrap(), checkpoint);
        assert_eq!(load_with_record(&path).unwrap().1, Some(record));
        assert!(load(&path).is_ok());
    }

    #[test]
    fn a_record_lacks_what_is_usual() {
        let text = serde_json::to_string(&record()).unwrap();
        assert!(
            !["earlier", "exif", "resize", "asked"]
                .iter()
                .any(|key| text.contains(key)),
            "{text}"
        );
        let short = text
            .replace(",\"limit\":0", "")
            .replace("\"image_size\":64,", "");
        let read: TrainingRecord = serde_json::from_str(&short).unwrap();
        assert_eq!((read.split.limit, read.image_size), (0, 0));
        let turned = TrainingRecord {
            exif: true,
            resize: "short:72".into(),
            ..record()
        };
        let text = serde_json::to_string(&turned).unwrap();
        assert_eq!(
            serde_json::from_str::<TrainingRecord>(&text).unwrap(),
            turned
        );
    }
}
