//! What the results of several experiments hold in common.

use super::inputs::Input;
use crate::records::EpochRecord;
use crate::training::Trained;
use lowbit::Graph;
use serde::{Deserialize, Serialize};

/// The data set in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataResults {
    /// Its name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// Whether it was generated.
    pub synthetic: bool,
    /// How train and test were told apart.
    pub split: String,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Height, width and channels.
    pub image_shape: [usize; 3],
    /// Training images.
    pub train_images: usize,
    /// Validation images.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_images: usize,
    /// Test images.
    pub test_images: usize,
    /// Checksum over class names, labels and pixels of all images; empty in results of older versions.
    #[serde(default)]
    pub fingerprint: String,
    /// What was left out of it and why, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl DataResults {
    /// Describes `input`.
    #[must_use]
    pub fn of(input: &Input) -> Self {
        let data = &input.data;
        Self {
            name: data.name.clone(),
            source: data.source.clone(),
            synthetic: data.synthetic,
            split: data.split.clone(),
            class_names: data.class_names.clone(),
            image_shape: [data.height, data.width, data.channels],
            train_images: data.train.len(),
            validation_images: data.validation.len(),
            test_images: data.test.len(),
            fingerprint: input.identity.fingerprint.clone(),
            notes: data.notes.clone(),
        }
    }
}

/// How a model was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingResults {
    /// Name of the model.
    pub model: String,
    /// Trained numbers.
    pub parameters: usize,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Seconds of training, evaluation not counted; none if the weights came from a file.
    pub training_time_seconds: Option<f64>,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
    /// The epoch that was kept, from 1: the best on the validation images, or the last where there are none; none if the
    /// weights came from a file, and in results of older versions.
    #[serde(default)]
    pub chosen_epoch: Option<usize>,
}

impl TrainingResults {
    /// Describes what made `trained`.
    #[must_use]
    pub fn of(graph: &Graph, trained: &Trained) -> Self {
        let epochs = trained.epochs.clone();
        Self {
            model: graph.name().into(),
            parameters: graph.parameter_count(),
            macs: graph.macs(),
            training_time_seconds: (!epochs.is_empty()).then(|| trained.train_seconds()),
            chosen_epoch: (!epochs.is_empty()).then_some(trained.chosen_epoch),
            epochs,
        }
    }
}
