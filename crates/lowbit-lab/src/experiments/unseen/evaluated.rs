//! What results say of the images that were measured.

use serde::{Deserialize, Serialize};

/// Which images are measured, as results say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Which they are.
    pub images: Which,
    /// How many there are.
    pub count: usize,
    /// Those that may have been training images: known ones, and those of which the file's sample of the training images
    /// cannot tell; none where nothing is known about the training.
    pub possibly_seen: Option<usize>,
    /// Those that are known to have been training images.
    pub seen: Option<usize>,
}

/// Which images are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The test images of the split that the model was trained with.
    TestOfTraining,
    /// The images that the data ship for testing.
    ShippedTest,
    /// All images of the data.
    All,
    /// All images but those that set the activation ranges.
    AllButCalibration,
    /// The test images of a split that this run drew or was told.
    TestOfThisSplit,
}

impl Evaluated {
    /// The test images of the split that a model is trained with in the same run.
    #[must_use]
    pub fn own_test(count: usize) -> Self {
        Self {
            images: Which::TestOfTraining,
            count,
            possibly_seen: Some(0),
            seen: Some(0),
        }
    }

    /// What is known about images that the model learned from; nothing for the test images of its own split.
    #[must_use]
    pub fn doubts(&self) -> String {
        let all = self.count;
        match (self.seen, self.possibly_seen) {
            (None, _) | (_, None) => {
                ": WARNING: the model's file does not say what it was trained on; they may be training images".into()
            }
            (Some(0), Some(0)) if self.images == Which::TestOfTraining => String::new(),
            (Some(0), Some(0)) => ", none of them among the training images".into(),
            (Some(0), Some(possibly)) if possibly == all => {
                ": WARNING: the model's file keeps a sample of its training images, which tells of none of these".into()
            }
            (Some(0), Some(possibly)) => format!(
                ", none of the {} that can be checked among the training images (the model's file keeps a sample of them)",
                all - possibly
            ),
            (Some(seen), possibly) => format!(
                ": WARNING: {}{seen} of them are training images, and the accuracy says nothing about new ones",
                // Of the others the file's sample may not know.
                if possibly > Some(seen) { "at least " } else { "" }
            ),
        }
    }
}
