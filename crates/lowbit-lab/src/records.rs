//! What one epoch of training came to.

use serde::{Deserialize, Serialize};

/// What one epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the epoch, while the weights changed.
    pub train_loss: f64,
    /// Accuracy (0–1) over the epoch, while the weights changed.
    pub train_accuracy: f64,
    /// Test loss of the deployed model (the float inference path, or the packed integers), after the epoch.
    pub test_loss: f64,
    /// Test accuracy of the deployed model, after the epoch, 0–1.
    pub test_accuracy: f64,
    /// Learning rate of the last step.
    pub lr: f32,
    /// Seconds of training, evaluation not counted.
    pub train_seconds: f64,
    /// Training images per second.
    pub train_img_per_s: f64,
    /// Digest of the deployed model's logits over the test images; none in records of older versions.
    #[serde(default)]
    pub logits_digest: Option<u32>,
}
