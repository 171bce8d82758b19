//! What one epoch of training came to.

use crate::evaluate::Score;
use serde::{Deserialize, Deserializer, Serialize};

/// What one epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the epoch, while the weights changed.
    pub train_loss: f64,
    /// Accuracy (0–1) over the epoch, while the weights changed.
    pub train_accuracy: f64,
    /// What the deployed model (the float inference path, or the packed integers) came to after the epoch.
    #[serde(flatten)]
    pub watched: Watched,
    /// Learning rate of the last step.
    pub lr: f32,
    /// Seconds of training, evaluation not counted.
    pub train_seconds: f64,
    /// Training images per second.
    pub train_img_per_s: f64,
    /// Digest of the deployed model's logits over the images that it was watched on; none in records of older versions.
    #[serde(default)]
    pub logits_digest: Option<u32>,
}

/// What a model came to after an epoch, on the images that watch over its training: validation images where the data has
/// some, test images where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Watched {
    /// On the test images.
    Test {
        /// Mean loss.
        test_loss: f64,
        /// Share of right predictions, 0–1.
        test_accuracy: f64,
    },
    /// On the validation images.
    Validation {
        /// Mean loss.
        validation_loss: f64,
        /// Share of right predictions, 0–1.
        validation_accuracy: f64,
    },
}

impl Watched {
    /// Loss and accuracy on the test images.
    #[must_use]
    pub fn test(score: Score) -> Self {
        Self::Test {
            test_loss: score.loss,
            test_accuracy: score.accuracy,
        }
    }

    /// Loss and accuracy on the validation images.
    #[must_use]
    pub fn validation(score: Score) -> Self {
        Self::Validation {
            validation_loss: score.loss,
            validation_accuracy: score.accuracy,
        }
    }

    /// Loss and accuracy, on whichever images.
    #[must_use]
    pub fn score(self) -> Score {
        match self {
            Self::Test {
                test_loss: loss,
                test_accuracy: accuracy,
            }
            | Self::Validation {
                validation_loss: loss,
                validation_accuracy: accuracy,
            } => Score { accuracy, loss },
        }
    }

    /// A short name of the images.
    #[must_use]
    pub fn images(self) -> &'static str {
        match self {
            Self::Test { .. } => "test",
            Self::Validation { .. } => "val",
        }
    }
}

/// A number that JSON has as null where it was none.
pub(crate) fn number_or_nan<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}
